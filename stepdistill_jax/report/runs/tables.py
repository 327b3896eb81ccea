"""The table of methods, as rows, Markdown and CSV, and a sentence for each pair that was tested on the same rows."""

import csv
import io
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stepdistill_jax.base.methods import TEACHER, words_of
from stepdistill_jax.report.runs.folder import Accuracy, Run
from stepdistill_jax.report.runs.teachers import has_records, read_test_correct
from stepdistill_jax.report.statistics.noise import (
    Difference,
    p_text,
    paired_difference,
    unpaired_difference,
)

ABSENT = "–"


@dataclass(frozen=True)
class Row:
    """One line of the table of methods: a run, or a teacher that was scored. None where a number is not known."""

    name: str
    dataset: str
    method: str
    num_parameters: int | None = None
    num_steps: int | None = None
    seed: int | None = None
    label_loss: float | None = None
    rationale_loss: float | None = None
    validation_last: Accuracy | None = None
    validation_best: Accuracy | None = None
    test: Accuracy | None = None
    seconds: float | None = None
    tokens_per_second: float | None = None
    test_correct: Mapping[str, bool] = field(default_factory=dict)  # example id -> right?; {} if not recorded
    notes: tuple[str, ...] = ()

    @property
    def method_name(self) -> str:
        return words_of(self.method)

    @property
    def title(self) -> str:
        """Method, with the run's name where that says more."""
        return self.name if self.name == self.method_name else f"{self.method_name} ({self.name})"


def make_rows(runs: Sequence[Run], teachers: Sequence[Mapping[str, Any] | str | Path] = ()) -> list[Row]:
    """Rows of all runs and teachers: by dataset, then best test accuracy first, untested ones last."""
    rows = [_run_row(run) for run in runs] + [_teacher_row(teacher) for teacher in teachers]
    return sorted(rows, key=_sort_key)


def _sort_key(row: Row) -> tuple[Any, ...]:
    test = row.test.percent if row.test else -1.0
    validation = row.validation_last.percent if row.validation_last else -1.0
    return row.dataset, -test, -validation, row.method, row.name


def _run_row(run: Run) -> Row:
    validation = run.accuracies("validation")
    test = run.test_accuracy()
    predictions = run.predictions("test", test.step if test else None)
    correct = {each.example_id: each.correct for each in predictions if each.correct is not None}
    notes = []
    if test is None and correct:
        test = Accuracy("test", sum(correct.values()), len(correct))
        notes.append("test accuracy was counted from the predictions, as no metrics file has it")
    elif test and correct and (test.num_correct, test.num_examples) != (sum(correct.values()), len(correct)):
        notes.append(
            f"test predictions have {sum(correct.values())} of {len(correct)} right, the metrics file "
            f"{test.num_correct} of {test.num_examples}; the table shows the metrics file"
        )
        correct = {}
    return Row(
        name=run.name,
        dataset=run.dataset,
        method=run.method,
        num_parameters=run.settings.get("num_parameters"),
        num_steps=run.num_steps,
        seed=run.settings.get("seed"),
        label_loss=run.last("label_loss"),
        rationale_loss=run.last("rationale_loss"),
        validation_last=validation[-1] if validation else None,
        validation_best=max(validation, key=lambda accuracy: accuracy.percent, default=None),
        test=test,
        seconds=run.seconds,
        tokens_per_second=run.tokens_per_second,
        test_correct=correct,
        notes=tuple(notes),
    )


def _teacher_row(teacher: Mapping[str, Any] | str | Path) -> Row:
    """The row of a rationales manifest, given as its contents, its path or its folder. Scores in it are optional."""
    manifest = teacher if isinstance(teacher, Mapping) else _read_manifest(Path(teacher))
    scores = manifest.get("scores") or {}
    accuracies = {
        split: _teacher_accuracy(split, scores.get(split) or {}) for split in ("validation", "test")
    }
    name = str(manifest.get("teacher") or "teacher")
    folder = None if isinstance(teacher, Mapping) else Path(teacher)
    missing = f"the manifest of {name} has no scores for test; run stepdistill teach with --score"
    return Row(
        name=name,
        dataset=str(manifest.get("dataset") or "unknown"),
        method=TEACHER,
        validation_last=accuracies["validation"],
        test=accuracies["test"],
        # So that students are compared with the teacher on the very rows that it was asked.
        test_correct=read_test_correct(folder) if folder and folder.is_dir() and has_records(folder) else {},
        notes=() if accuracies["test"] else (missing,),
    )


def _teacher_accuracy(split: str, score: Mapping[str, Any]) -> Accuracy | None:
    if not score.get("num_examples") or score.get("num_correct") is None:
        return None
    return Accuracy(split, int(score["num_correct"]), int(score["num_examples"]))


def _read_manifest(path: Path) -> Mapping[str, Any]:
    path = path / "manifest.json" if path.is_dir() else path
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such teacher manifest; give DATA/<dataset>/rationales/<teacher>")
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{path}: not JSON ({error}); write the rationales again with stepdistill teach"
        ) from error
    if not isinstance(manifest, dict):
        raise ValueError(
            f"{path}: holds {type(manifest).__name__}, not an object; give a teacher's manifest.json"
        )
    return manifest


# -- sentences ---------------------------------------------------------------------------------------------------------


def comparisons(rows: Sequence[Row]) -> list[str]:
    """One sentence for each pair of rows of one dataset that both have a test accuracy."""
    tested = [row for row in rows if row.test]
    return [_sentence(a, b) for a, b in itertools.combinations(tested, 2) if a.dataset == b.dataset]


def _sentence(a: Row, b: Row) -> str:
    both_recorded = bool(a.test_correct) and bool(b.test_correct)
    if both_recorded and not a.test_correct.keys() & b.test_correct.keys():
        return (
            f"{a.dataset}: {a.title} and {b.title} were tested on different rows, so they are not compared."
        )
    if not both_recorded and a.test.num_examples != b.test.num_examples:
        return (
            f"{a.dataset}: {a.title} was tested on {a.test.num_examples:,} rows and {b.title} on "
            f"{b.test.num_examples:,}, so they are not compared."
        )
    if both_recorded:
        difference = paired_difference(a.test_correct, b.test_correct)
    else:
        difference = unpaired_difference(
            (a.test.num_correct, a.test.num_examples), (b.test.num_correct, b.test.num_examples)
        )
    return f"{a.dataset}: {_claim(a.title, b.title, difference)}"


def _claim(a: str, b: str, difference: Difference) -> str:
    rows = f"{difference.num_examples:,} test rows"
    kind = "a paired standard error" if difference.paired else "an unpaired standard error"
    if abs(difference.points) < 1e-9:
        return f"{a} and {b} are equally accurate on {rows} with {kind} of {difference.standard_error:.1f} points."
    direction = "above" if difference.points > 0 else "below"
    numbers = f"{a} is {abs(difference.points):.1f} points {direction} {b} on {rows}"
    if difference.paired:
        measure = f"McNemar's p {p_text(difference.mcnemar_p)}"
    else:
        measure = f"{abs(difference.points) / difference.standard_error:.2f} standard errors"
    verdict = (
        "below the noise, so it is no evidence that they differ"
        if difference.below_noise
        else "beyond the noise"
    )
    return f"{numbers}, with {kind} of {difference.standard_error:.1f}: {measure}, {verdict}."


# -- text --------------------------------------------------------------------------------------------------------------

COLUMNS = (
    "Run", "Dataset", "Method", "Parameters", "Steps", "Seed", "Train label loss (nats)", "Train rationale loss (nats)",
    "Validation, last step (%)", "Validation, best step (%)", "Test (%), 95 % interval", "Right",
    "Wall time", "Tokens/s",
)  # fmt: skip


def cells(row: Row) -> tuple[str, ...]:
    """What the reader sees in each of COLUMNS; "–" where a number is not known."""
    best, test = row.validation_best, row.test
    return (
        row.name,
        row.dataset,
        row.method_name,
        count_text(row.num_parameters),
        ABSENT if row.num_steps is None else f"{row.num_steps:,}",
        ABSENT if row.seed is None else str(row.seed),
        _decimal(row.label_loss, 3),
        _decimal(row.rationale_loss, 3),
        f"{row.validation_last.percent:.1f}" if row.validation_last else ABSENT,
        f"{best.percent:.1f} (step {best.step:,})" if best and best.step is not None else ABSENT,
        test.text if test else ABSENT,
        f"{test.num_correct:,} of {test.num_examples:,}" if test else ABSENT,
        duration(row.seconds),
        ABSENT if row.tokens_per_second is None else f"{row.tokens_per_second:,.0f}",
    )


def markdown(rows: Sequence[Row]) -> str:
    """The table as Markdown, with `|` in names escaped."""
    lines = [COLUMNS, *(cells(row) for row in rows)]
    text = ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]
    alignment = "| " + " | ".join("---" if i < 3 else "---:" for i in range(len(COLUMNS))) + " |"
    return "\n".join([text[0], alignment, *text[1:]]) + "\n"


def comma_separated(rows: Sequence[Row]) -> str:
    """The table as CSV with full precision and plain numbers, for a spreadsheet or a script; empty where not known."""
    output = io.StringIO()
    records = [_record(row) for row in rows]
    writer = csv.DictWriter(output, fieldnames=list(records[0]) if records else ["run"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return output.getvalue()


def _record(row: Row) -> dict[str, Any]:
    test, last, best = row.test, row.validation_last, row.validation_best
    return {
        "run": row.name,
        "dataset": row.dataset,
        "method": row.method,
        "num_parameters": row.num_parameters,
        "num_steps": row.num_steps,
        "seed": row.seed,
        "train_label_loss": row.label_loss,
        "train_rationale_loss": row.rationale_loss,
        "validation_last_percent": last.percent if last else None,
        "validation_best_percent": best.percent if best else None,
        "validation_best_step": best.step if best else None,
        "validation_num_examples": last.num_examples if last else None,
        "test_percent": test.percent if test else None,
        "test_num_correct": test.num_correct if test else None,
        "test_num_examples": test.num_examples if test else None,
        "test_low_percent": test.interval[0] if test else None,
        "test_high_percent": test.interval[1] if test else None,
        "test_step": test.step if test else None,
        "wall_seconds": row.seconds,
        "tokens_per_second": row.tokens_per_second,
    }


def duration(seconds: float | None) -> str:
    """12 s, 3 min 05 s, 2 h 07 min."""
    if seconds is None:
        return ABSENT
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def count_text(number: int | None) -> str:
    """220.0 M for 220,012,345, and so on."""
    if number is None:
        return ABSENT
    for unit, size in (("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.1f} {unit}"
    return str(number)


def _decimal(value: float | None, places: int) -> str:
    return ABSENT if value is None else f"{value:.{places}f}"
