"""The part of a page about one run with choices: a table of classes, figures, and the most confident mistakes."""

from dataclasses import dataclass
from pathlib import Path

from stepdistill_jax.base.intervals import wilson_interval
from stepdistill_jax.base.whole_files import write_atomically
from stepdistill_jax.prediction.calibration import read_calibration
from stepdistill_jax.report.choices import scores
from stepdistill_jax.report.choices.figures import draw_choices, thresholds
from stepdistill_jax.report.choices.reading import (
    Answer,
    ScoredChoices,
    read_choices,
)
from stepdistill_jax.report.style.drawing import Figure
from stepdistill_jax.report.style.table import Cell, Column, Table, comma_separated

NUM_MISTAKES = 10
_ABSENT = "–"


@dataclass(frozen=True)
class ChoicesSection:
    """What the page shows of one run; `csv` is the table as a file beside it."""

    name: str
    sentences: tuple[str, ...]
    table: Table
    csv: str
    figures: tuple[Figure, ...]
    mistakes: tuple[Answer, ...]
    num_wrong: int


def choices_section(run: Path, *, name: str, title: str, folder: Path) -> ChoicesSection | None:
    """The section of a run whose choices were scored, its files written into `folder` as TITLE-…; None for any other run."""
    scored = read_choices(run)
    if scored is None or not scored.answers:
        return None
    table = _table(scored, title)
    csv = f"{title}-classes.csv"
    write_atomically(folder / csv, comma_separated(table))
    return ChoicesSection(
        name=name,
        sentences=tuple(_sentences(scored, run)),
        table=table,
        csv=csv,
        figures=tuple(draw_choices(scored, title, folder=folder)),
        mistakes=tuple(scores.confident_mistakes(scored, NUM_MISTAKES)),
        num_wrong=sum(not answer.correct for answer in scored.answers),
    )


def _sentences(scored: ScoredChoices, run: Path) -> list[str]:
    found = []
    if (calibration := read_calibration(run)) is not None:
        found.append(
            f"Temperature {calibration.temperature:.2f}, found on {calibration.num_examples:,} validation rows: there "
            f"the expected calibration error is {100 * calibration.ece_before:.1f} % without it and "
            f"{100 * calibration.ece_after:.1f} % with it."
        )
    found += [
        f"--abstain_below {threshold:g}: {point.percent_answered:.1f} % of the questions are answered, "
        f"{point.percent_right:.1f} % of these right ({_interval(point.num_correct, point.num_answered)})."
        for threshold, point in thresholds(scores.coverage(scored))
        if threshold
    ]
    outside = [label for label in scores.labels_of(scored) if label not in scored.choices]
    if outside:
        found.append(f"Gold labels that are no choice, and so never answered: {', '.join(outside)}.")
    return found


def _table(scored: ScoredChoices, title: str) -> Table:
    columns = (
        Column("Class", "label", False), Column("Rows", "num_gold"), Column("Predicted", "num_predicted"),
        Column("Right", "num_correct"), Column("Precision (%), 95 % interval", "precision_percent"),
        Column("Recall (%), 95 % interval", "recall_percent"), Column("F1 (%)", "f1_percent"),
    )  # fmt: skip
    rows = tuple(
        (
            Cell(each.label, each.label), Cell(f"{each.num_gold:,}", each.num_gold), Cell(f"{each.num_predicted:,}", each.num_predicted),
            Cell(f"{each.num_correct:,}", each.num_correct), _percent(each.precision, each.precision_interval),
            _percent(each.recall, each.recall_interval), Cell(_ABSENT if each.f1 is None else f"{each.f1:.1f}", each.f1),
        )
        for each in scores.class_scores(scored)
    )  # fmt: skip
    num_right = sum(answer.correct for answer in scored.answers)
    caption = (
        f"{num_right:,} of {len(scored.answers):,} {scored.split} rows right at step {scored.step:,}, by the most probable "
        "choice. Precision: of the rows that are given the class, those that have it. Recall: of the rows that have the "
        "class, those that are given it. Intervals are Wilson's."
    )
    return Table(title, "Classes", caption, columns, rows)


def _interval(num_correct: int, num_examples: int) -> str:
    low, high = wilson_interval(num_correct, num_examples)
    return f"{num_correct:,} of {num_examples:,}; {low:.1f} to {high:.1f}"


def _percent(value: float | None, interval: tuple[float, float] | None) -> Cell:
    if value is None or interval is None:
        return Cell(_ABSENT)
    return Cell(f"{value:.1f} ({interval[0]:.1f} to {interval[1]:.1f})", value)
