"""The accuracy of a teacher's own labels: few-shot CoT prompting, the baseline of the paper's Tables."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stepdistill_jax import datasets
from stepdistill_jax.base.intervals import wilson_interval
from stepdistill_jax.base.visible import visible
from stepdistill_jax.datasets import record_io
from stepdistill_jax.datasets.lineage.belonging import misfits
from stepdistill_jax.datasets.lineage.mixed_data import settle

TRAIN_AND_VALIDATION = "train + validation"  # as the paper splits SVAMP and CQA from one published file


@dataclass(frozen=True)
class Score:
    """Answers of a teacher against gold labels. An unparsed answer is a wrong one; rows without gold label don't count."""

    correct: int = 0
    total: int = 0
    unparsed: int = 0
    without_gold: int = 0

    @property
    def percent(self) -> float | None:
        """Accuracy in percent, None where nothing can be scored."""
        return 100.0 * self.correct / self.total if self.total else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Wilson's 95 % interval of the accuracy in percent."""
        return wilson_interval(self.correct, self.total) if self.total else None

    def __add__(self, other: "Score") -> "Score":
        return Score(
            self.correct + other.correct,
            self.total + other.total,
            self.unparsed + other.unparsed,
            self.without_gold + other.without_gold,
        )


def score(
    name: str, *, teacher: str | None = None, data_dir: str | os.PathLike[str] | None = None
) -> dict[str, Score]:
    """Accuracy per split of the teacher's recorded labels, and of train and validation together; prints a table.

    Args:
      name: of a dataset with rationales, as `stepdistill teach` writes them.
      teacher: the folder below DATA/<name>/rationales/; the dataset's default teacher if None.
    """
    dataset = datasets.get(name, data_dir)
    teacher = teacher or dataset.default_teacher
    folder = datasets.data_dir(data_dir) / name / "rationales" / teacher
    manifest = record_io.read_manifest(folder)
    if manifest is None:
        raise ValueError(
            f"No rationales in {folder}; write them with `stepdistill teach {name} --teacher …`."
        )
    examples = folder.parents[1] / "examples"
    settle(line for split in manifest["counts"] for line in misfits(folder, examples, split))
    scores = {
        split: score_records(dataset, record_io.read_records(folder, split)) for split in manifest["counts"]
    }
    if scores.keys() >= {"train", "validation"}:
        scores[TRAIN_AND_VALIDATION] = scores["train"] + scores["validation"]
    print(visible(format_scores(f"{name}: few-shot CoT accuracy of {teacher}", scores)))
    return scores


def score_records(dataset: datasets.Dataset, records: Iterable[Mapping[str, Any]]) -> Score:
    """The score of rationale records, by the dataset's own metric.

    An answer that was given with the gold label as a hint counts as the miss that it was without. Whether a quality rule
    drops an answer makes no difference: this is the teacher's accuracy, not the students' data's.
    """
    correct = total = unparsed = without_gold = 0
    for record in records:
        if not record["has_label"]:
            without_gold += 1
            continue
        total += 1
        if record["unparsed_reason"]:
            unparsed += 1
        elif not record_io.is_hinted(record) and datasets.labels_match(
            dataset, record["teacher_label"], record["label"]
        ):
            correct += 1
    return Score(correct, total, unparsed, without_gold)


def format_scores(title: str, scores: Mapping[str, Score]) -> str:
    """An aligned table, one row per split."""
    rows: list[Sequence[str]] = [("split", "accuracy", "95 % interval", "correct", "of", "unparsed")]
    for split, one in scores.items():
        if one.percent is None:
            rows.append((split, "-", "-", "-", "0", f"({one.without_gold:,} rows without gold label)"))
        else:
            low, high = one.interval
            interval = f"{low:.2f} to {high:.2f}"
            numbers = (f"{number:,}" for number in (one.correct, one.total, one.unparsed))
            rows.append((split, f"{one.percent:.2f} %", interval, *numbers))
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    lines = [title]
    for split, *numbers, last in rows:
        cells = "  ".join(f"{cell:>{width}}" for cell, width in zip(numbers, widths[1:], strict=True))
        lines.append(f"  {split:<{widths[0]}}  {cells}  {last:>8}")
    return "\n".join(lines)
