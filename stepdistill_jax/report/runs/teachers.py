"""What a teacher wrote, read back from its folder: accuracy, lengths, failures by reason, and samples."""

import itertools
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stepdistill_jax.base.intervals import wilson_interval
from stepdistill_jax.datasets import equations, record_io

MOST_RECORDS = 20_000  # of a split are read; e-SNLI has 549,367
NUM_SAMPLES = 10
_SAMPLED_SPLITS = ("test", "validation", "train")


@dataclass(frozen=True)
class SplitAnswers:
    """A teacher's answers to one split, as table cells."""

    split: str
    answered: int
    parsed: int
    accuracy: str
    words: str
    tokens: str


@dataclass(frozen=True)
class Reason:
    """How often one thing was wrong, by split."""

    what: str
    counts: tuple[int, ...]


@dataclass(frozen=True)
class TeacherSample:
    """One answer beside the gold label. `correct` is None where there is no gold label."""

    example_id: str
    inputs: str
    gold: str
    label: str
    rationale: str
    unparsed_reason: str
    correct: bool | None
    note: str = ""


@dataclass(frozen=True)
class TeacherSection:
    """What the page says of one teacher."""

    name: str
    dataset: str
    facts: tuple[tuple[str, str], ...]
    splits: tuple[SplitAnswers, ...]
    reasons: tuple[Reason, ...]
    samples: tuple[TeacherSample, ...]
    sample_split: str


def read_teacher(folder: Path) -> TeacherSection:
    """The section of DATA/<dataset>/rationales/<teacher>.

    Raises:
      ValueError: names a shard that is damaged.
    """
    manifest = record_io.read_manifest(folder) or {}
    splits, words_of = [], {}
    for split in manifest["counts"]:
        records = list(itertools.islice(record_io.read_records(folder, split), MOST_RECORDS))
        splits.append(_split_answers(split, records, manifest))
        words_of[split] = records
    sample_split = next((split for split in _SAMPLED_SPLITS if split in words_of), "")
    metric = str(manifest.get("metric", ""))
    return TeacherSection(
        name=str(manifest["teacher"]),
        dataset=str(manifest["dataset"]),
        facts=tuple(_facts(manifest)),
        splits=tuple(splits),
        reasons=tuple(_reasons(manifest)),
        samples=tuple(_samples(words_of.get(sample_split, []), metric)),
        sample_split=sample_split,
    )


def has_records(folder: Path) -> bool:
    """Whether a folder holds a teacher's records, rather than a manifest alone."""
    return any(folder.glob("*.tfrecord"))


def read_test_correct(folder: Path) -> dict[str, bool]:
    """Example id -> whether the teacher's label is right, for test rows with a gold label; {} without test rows."""
    manifest = record_io.read_manifest(folder)
    if manifest is None or "test" not in manifest.get("counts", {}):
        return {}
    metric = str(manifest.get("metric", ""))
    rows = record_io.read_records(folder, "test")
    return {row["example_id"]: is_right(row, metric) for row in rows if row["has_label"]}


def is_right(record: Mapping[str, Any], metric: str) -> bool:
    """Whether a record's own label is the gold one: unparsed answers are wrong, and so are those that had a hint."""
    if record["unparsed_reason"] or record_io.is_hinted(record):
        return False
    predicted, gold = record["teacher_label"].strip(), record["label"].strip()
    if metric != "text" and (value := equations.evaluate(gold)) is not None:
        return equations.values_match(equations.evaluate(predicted), value)
    return predicted == gold


def _split_answers(
    split: str, records: Sequence[Mapping[str, Any]], manifest: Mapping[str, Any]
) -> SplitAnswers:
    rationales = [len(row["rationale"].split()) for row in records if not row["unparsed_reason"]]
    tokens = [row["completion_tokens"] for row in records if row["completion_tokens"] >= 0]
    return SplitAnswers(
        split=split,
        answered=manifest["counts"][split],
        parsed=manifest["parsed"].get(split, 0),
        accuracy=_accuracy(manifest.get("scores", {}).get(split)),
        words=_spread(rationales),
        tokens=_spread(tokens),
    )


def _accuracy(score: Mapping[str, Any] | None) -> str:
    if not score or not score.get("num_examples"):
        return "–"
    correct, total = int(score["num_correct"]), int(score["num_examples"])
    low, high = wilson_interval(correct, total)
    return f"{100 * correct / total:.1f} % ({low:.1f} to {high:.1f}; {correct:,} of {total:,})"


def _spread(numbers: Sequence[int]) -> str:
    """'27 (12 to 41, at most 60)': the median, the 10th and 90th percentile, and the largest."""
    if not numbers:
        return "–"
    order = sorted(numbers)
    low, middle, high = (order[round(share * (len(order) - 1))] for share in (0.1, 0.5, 0.9))
    return f"{middle:,} ({low:,} to {high:,}, at most {order[-1]:,})"


def _reasons(manifest: Mapping[str, Any]) -> Iterable[Reason]:
    """Unparsed answers, dropped ones and failed requests, each by what was wrong, the most frequent first."""
    splits = list(manifest["counts"])
    kinds = {"unparsed": "", "dropped": "dropped: ", "skipped": "not answered: ", "notes": "note: "}
    for kind, prefix in kinds.items():
        by_split = manifest.get(kind) or {}
        total: Counter[str] = Counter()
        for split in splits:
            total.update(by_split.get(split) or {})
        for what, _ in total.most_common():
            counts = tuple(int((by_split.get(split) or {}).get(what, 0)) for split in splits)
            yield Reason(f"{prefix}{what}", counts)


def _facts(manifest: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    """How the teacher was asked, as far as the manifest says."""
    settings = manifest.get("settings") or {}
    facts = {
        "Model": manifest.get("model"),
        "Prompt": settings.get("prompt"),
        "Worked examples": settings.get("shots"),
        "Asked as": settings.get("style"),
        "Sampling": json.dumps(settings["sampling"]) if settings.get("sampling") else None,
        "Prompt hash": manifest.get("prompt_hash"),
    }
    return [(term, str(value)) for term, value in facts.items() if value not in (None, "")]


def _samples(records: Sequence[Mapping[str, Any]], metric: str) -> Iterable[TeacherSample]:
    """Evenly spaced, not chosen by outcome."""
    count = min(NUM_SAMPLES, len(records))
    for place in range(count):
        row = records[place * len(records) // count]
        unparsed = row["unparsed_reason"]
        yield TeacherSample(
            example_id=row["example_id"],
            inputs=row["inputs"],
            gold=row["label"] if row["has_label"] else "(none)",
            label=row["teacher_label"],
            rationale=row["raw_output"] if unparsed else row["rationale"],
            unparsed_reason=unparsed,
            correct=is_right(row, metric) if row["has_label"] else None,
            note=row.get("dropped_reason", ""),
        )
