"""Which groups of a sweep are compared, and what each comparison says in words."""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from stepdistill_jax.base.methods import TEACHER
from stepdistill_jax.report.statistics.noise import (
    Difference,
    p_text,
    unpaired_difference,
)
from stepdistill_jax.report.statistics.paired_tests import over_seeds, paired_test
from stepdistill_jax.report.sweep.folder import BASELINES, SETTINGS, Group, Sweep, setting_text
from stepdistill_jax.report.sweep.runs import SEEDS


@dataclass(frozen=True)
class Comparison:
    """Mean accuracy of a minus that of b in points. low, high and p_value are None where answers were not kept."""

    dataset: str
    where: str  # size and share that both have
    a: Group
    b: Group
    points: float
    standard_error: float
    low: float | None
    high: float | None
    p_value: float | None
    mcnemar_p: float | None
    seeds_p: float | None
    num_examples: int
    below_noise: bool

    @property
    def verdict(self) -> str:
        return "below the noise" if self.below_noise else "beyond the noise"

    @property
    def sentence(self) -> str:
        place = f"{self.dataset}{', ' + self.where if self.where else ''}"
        if abs(self.points) < 1e-9:
            return f"{place}: {self.a.label} and {self.b.label} are equally accurate."
        numbers = (
            f"{place}: {self.a.label} is {abs(self.points):.1f} points {'above' if self.points > 0 else 'below'} "
            f"{self.b.label} (standard error {self.standard_error:.1f}"
        )
        p_value = self.p_value if self.mcnemar_p is None else self.mcnemar_p
        numbers += ", not paired)" if p_value is None else f", p {p_text(p_value)})"
        if self.seeds_p is not None:
            numbers = f"{numbers.removesuffix(')')}, over seeds alone {p_text(self.seeds_p)})"
        if self.below_noise:
            return f"{numbers}: below the noise, so it is no evidence that they differ."
        if min(len(self.a.runs), len(self.b.runs)) == 1 and TEACHER not in (self.a.method, self.b.method):
            return f"{numbers}: beyond the noise of the test rows; with one seed of a side, that is of these models only."
        return f"{numbers}: beyond the noise."


def compare_groups(sweep: Sweep) -> list[Comparison]:
    """Groups of equal dataset, size and share that differ in one thing, and each group with its teacher.

    And each with less data than all, against the baseline with all of it: the paper's comparison of Figures 4 and 5.
    """
    found = []
    for dataset in sweep.datasets:
        students, teachers = sweep.students(dataset), sweep.teachers(dataset)
        pairs = [
            (a, b) for a, b in itertools.combinations(students, 2) if (a.size, a.share) == (b.size, b.share)
        ]
        pairs += [(a, b) for a in students for b in teachers]
        with_less = itertools.product(students, students)
        found += [
            _compare(a, b, f"{_where(sweep, a)} against all") for a, b in with_less if _has_less_data(a, b)
        ]
        for a, b in pairs:
            if _num_differences(a, b) == 1:
                # The baseline comes second, so that a gain has a plus.
                a, b = (b, a) if a.method in BASELINES and b.method not in (*BASELINES, TEACHER) else (a, b)
                found.append(_compare(a, b, _where(sweep, a)))
    return found


def _has_less_data(a: Group, b: Group) -> bool:
    """Whether `b` is the same student's baseline with all data, and `a` another method with a part of them."""
    methods = b.method in BASELINES and a.method not in BASELINES
    data = b.share == 1.0 and a.share is not None and a.share < 1.0
    return methods and data and a.size == b.size and _num_differences(a, b) == 2


def _num_differences(a: Group, b: Group) -> int:
    """Settings in which two groups of a cell differ; one that is nothing to a method, null, does not count."""
    first, second = a.first.settings, b.first.settings
    teacher = TEACHER in (a.method, b.method)
    names = ("method", "teacher") if teacher else (first.keys() | second.keys()) - {*SEEDS, "gin_file"}
    pairs = [(first.get(name), second.get(name), name) for name in names]
    return sum(x != y and (name not in SETTINGS or None not in (x, y)) for x, y, name in pairs)


def _where(sweep: Sweep, group: Group) -> str:
    names = [name for name in ("size", "train_share") if name in sweep.varying]
    settings = group.first.settings
    return ", ".join(setting_text(name, settings[name]) for name in names if settings.get(name) is not None)


def _compare(a: Group, b: Group, where: str) -> Comparison:
    ids = _shared_ids([*a.runs, *b.runs])
    if not ids:
        return _compare_unpaired(a, b, where)
    seeds_a, seeds_b = [run.seed for run in a.runs], [run.seed for run in b.runs]
    test = paired_test(
        _right(a, ids),
        _right(b, ids),
        seeds_paired=seeds_a == seeds_b and TEACHER not in (a.method, b.method),
    )
    return Comparison(
        a.dataset, where, a, b, test.points, test.standard_error, test.low, test.high, test.p_value, test.mcnemar_p,
        test.seeds_p, test.num_examples, test.below_noise,
    )  # fmt: skip


def _compare_unpaired(a: Group, b: Group, where: str) -> Comparison:
    """Rows and seeds of both sides as if drawn apart: variances are added."""
    means = [over_seeds(group.percents) for group in (a, b)]
    counts = [
        (round(mean.mean * group.first.test.num_examples / 100), group.first.test.num_examples)
        for mean, group in zip(means, (a, b), strict=True)
    ]
    error = float(
        np.hypot(
            unpaired_difference(*counts).standard_error,
            np.hypot(means[0].standard_error or 0.0, means[1].standard_error or 0.0),
        )
    )
    difference = Difference(means[0].mean - means[1].mean, error, min(n for _, n in counts))
    return Comparison(
        a.dataset,
        where,
        a,
        b,
        difference.points,
        error,
        None,
        None,
        None,
        None,
        None,
        difference.num_examples,
        difference.below_noise,
    )


def _shared_ids(runs: Iterable) -> list[str]:
    """Ids of the test rows that every run answered, in order of id; [] if one kept no answers."""
    ids = None
    for run in runs:
        ids = set(run.correct) if ids is None else ids & run.correct.keys()
    return sorted(ids or ())


def _right(group: Group, ids: Sequence[str]) -> np.ndarray:
    return np.array([[run.correct[name] for name in ids] for run in group.runs], bool)


def teacher_percent(sweep: Sweep, group: Group) -> float:
    """Accuracy of the group's own teacher; of the best of the dataset's for a group that has none."""
    teachers = sweep.teachers(group.dataset)
    own = [
        each for each in teachers if each.first.settings.get("teacher") == group.first.settings.get("teacher")
    ]
    return max(over_seeds(each.percents).mean for each in own or teachers)


def beats_teacher(sweep: Sweep, group: Group) -> bool:
    """Whether the mean over seeds is above the teacher's accuracy on the dataset."""
    return over_seeds(group.percents).mean > teacher_percent(sweep, group)


def noise_sentences(sweep: Sweep) -> list[str]:
    """What one test split can tell apart, for each dataset: 'svamp: 200 test rows; … 3.4 points …'."""
    sentences = []
    for dataset in sweep.datasets:
        runs = [run for group in sweep.of(dataset) for run in group.runs]
        for rows in sorted({run.test.num_examples for run in runs}):
            tests = [run.test for run in runs if run.test.num_examples == rows]
            widest = max(tests, key=lambda test: (test.interval[1] - test.interval[0], test.percent))
            low, high = widest.interval
            sentences.append(
                f"{dataset}: {rows:,} test rows, so one run's {widest.percent:.1f} % stands for {low:.1f} to {high:.1f} % (Wilson's 95 % "
                f"interval). Differences of less than about {(high - low) / 2:.0f} points between single runs are noise unless the "
                "paired test says otherwise."
            )
    return sentences
