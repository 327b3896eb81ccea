"""Is a difference between two accuracies more than noise? The rule for one model a side, in points (percent).

Of several seeds a side, `paired_tests` decides, by the same test where there is one.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from stepdistill_jax.base.intervals import Z_95, wilson_interval

LEVEL = 0.05  # a difference that chance makes at least this often is noise
NOISE_STANDARD_ERRORS = 2.0  # that level, for a normal error


@dataclass(frozen=True)
class Difference:
    """Accuracy of a minus accuracy of b in points, and its standard error over test rows."""

    points: float
    standard_error: float
    num_examples: int
    mcnemar_p: float | None = None  # of the rows that both answered; None where that is not known row by row

    @property
    def paired(self) -> bool:
        return self.mcnemar_p is not None

    @property
    def below_noise(self) -> bool:
        """By McNemar's exact test, else by the standard error; one of 0 is no measure of anything."""
        if self.mcnemar_p is not None:
            return self.mcnemar_p >= LEVEL
        return not self.standard_error or abs(self.points) < NOISE_STANDARD_ERRORS * self.standard_error


def accuracy_standard_error(num_correct: int, num_examples: int) -> float:
    """The spread of an accuracy over draws of n test rows, in points: half of Wilson's 95 % interval, over 1.96.

    Near sqrt(p(1 - p) / n) in the middle, but not 0 where nothing or everything is right. Seeds are not in it.
    """
    low, high = wilson_interval(num_correct, num_examples)
    return (high - low) / 2 / Z_95


def unpaired_difference(a: tuple[int, int], b: tuple[int, int]) -> Difference:
    """Difference of two (num_correct, num_examples), as if their rows were drawn apart: SE² = SE_a² + SE_b²."""
    points = 100.0 * (a[0] / a[1] - b[0] / b[1])
    standard_error = math.hypot(accuracy_standard_error(*a), accuracy_standard_error(*b))
    return Difference(points, standard_error, num_examples=min(a[1], b[1]))


def paired_difference(a: Mapping[str, bool], b: Mapping[str, bool]) -> Difference:
    """Difference over the example ids that both answered; `a` and `b` say for each id whether it was right.

    With d_i in {-1, 0, 1} the difference at row i: mean(d) ± sqrt((mean(d²) - mean(d)²) / n). Rows that both get
    right or both get wrong cancel, so this is smaller than the unpaired error when the two tend to agree.
    """
    shared = a.keys() & b.keys()
    if not shared:
        raise ValueError(
            f"no example id is in both predictions ({len(a)} and {len(b)} rows); compare runs on equal test rows"
        )
    differences = [int(a[example_id]) - int(b[example_id]) for example_id in shared]
    n = len(differences)
    mean = sum(differences) / n
    variance = sum(d * d for d in differences) / n - mean * mean
    return Difference(
        100.0 * mean,
        100.0 * math.sqrt(max(variance, 0.0) / n),
        num_examples=n,
        mcnemar_p=mcnemar(differences.count(1), differences.count(-1)),
    )


def mcnemar(only_a: int, only_b: int) -> float:
    """Two-sided p of the exact McNemar test: of the rows that one alone gets right, each is a's with chance 1/2."""
    if only_a + only_b == 0:
        return 1.0
    from scipy.stats import binomtest

    return float(binomtest(only_a, only_a + only_b, 0.5).pvalue)


def p_text(p_value: float) -> str:
    """'= 0.0312', and '< 0.0001' where fewer places would say 0."""
    return "< 0.0001" if p_value < 0.0001 else f"= {p_value:.4f}"
