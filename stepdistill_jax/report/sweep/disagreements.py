"""Test rows that one of two methods gets right and the other wrong."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from stepdistill_jax.base.methods import TEACHER
from stepdistill_jax.report.sweep.comparisons import Comparison
from stepdistill_jax.report.sweep.folder import Sweep
from stepdistill_jax.report.sweep.runs import SweepRun

MOST_PAIRS = 8
ROWS_A_SIDE = 8


@dataclass(frozen=True)
class Answer:
    """What one side says of a row."""

    text: str
    correct: bool
    rationale: str


@dataclass(frozen=True)
class Disagreement:
    """A row that one side alone gets right; `teacher_rationale` is '' where no run has it."""

    example_id: str
    inputs: str
    target: str
    a: Answer
    b: Answer
    teacher_rationale: str


@dataclass(frozen=True)
class DisagreementSection:
    """The rows of one pair of runs, evenly spaced among all such rows."""

    title: str
    runs: tuple[SweepRun, SweepRun]
    labels: tuple[str, str]
    num_only_a: int
    num_only_b: int
    num_rows: int
    rows: tuple[Disagreement, ...]


def disagreements(sweep: Sweep, comparisons: Sequence[Comparison]) -> list[DisagreementSection]:
    """Sections for the pairs with kept answers: most data and the largest students first, students before teachers."""
    pairs = [each for each in comparisons if each.low is not None]
    pairs.sort(key=lambda each: (each.b.method == TEACHER, -(each.a.share or 0.0), -(each.a.median("parameters") or 0.0)))  # fmt: skip
    return [section for each in pairs[:MOST_PAIRS] if (section := _section(sweep, each)).rows]


def _section(sweep: Sweep, comparison: Comparison) -> DisagreementSection:
    """Of the first seed that both have, else of each side's first."""
    seeds = {run.seed: run for run in comparison.b.runs}
    a = next((run for run in comparison.a.runs if run.seed in seeds), comparison.a.runs[0])
    b = seeds.get(a.seed, comparison.b.runs[0])
    shared = [name for name in a.correct if name in b.correct]
    only_a = [name for name in shared if a.correct[name] and not b.correct[name]]
    only_b = [name for name in shared if b.correct[name] and not a.correct[name]]
    taught = {**sweep.teacher_rationales(b), **sweep.teacher_rationales(a)} if b.method != TEACHER else {}
    place = f"{comparison.dataset}{', ' + comparison.where if comparison.where else ''}"
    return DisagreementSection(
        title=f"{place}: {comparison.a.label} against {comparison.b.label}",
        runs=(a, b),
        labels=(comparison.a.label, comparison.b.label),
        num_only_a=len(only_a),
        num_only_b=len(only_b),
        num_rows=len(shared),
        rows=tuple(_row(name, a, b, taught) for name in [*_spaced(only_a), *_spaced(only_b)]),
    )


def _spaced(names: Sequence[str]) -> list[str]:
    count = min(ROWS_A_SIDE, len(names))
    return [names[i * len(names) // count] for i in range(count)]


def _row(name: str, a: SweepRun, b: SweepRun, taught: Mapping[str, str]) -> Disagreement:
    beside = [run.rationales[name][1] for run in (a, b) if name in run.rationales]
    first = a.answers[name]
    teachers = next((text for text in beside if text), taught.get(name, ""))
    return Disagreement(name, first.inputs, first.target, _answer(a, name), _answer(b, name), teachers)


def _answer(run: SweepRun, name: str) -> Answer:
    return Answer(run.answers[name].prediction, run.correct[name], run.rationales.get(name, ("", ""))[0])
