"""Is a difference between two accuracies more than the noise of the test rows? Closed forms only, in points (percent)."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

NOISE_STANDARD_ERRORS = 2.0  # about 95 % of differences between equal methods fall inside, for a normal error


@dataclass(frozen=True)
class Difference:
    """Accuracy of a minus accuracy of b in points, and its standard error over test rows."""

    points: float
    standard_error: float
    num_examples: int
    paired: bool

    @property
    def below_noise(self) -> bool:
        return abs(self.points) < NOISE_STANDARD_ERRORS * self.standard_error


def accuracy_standard_error(num_correct: int, num_examples: int) -> float:
    """sqrt(p(1 - p) / n) in points: the spread of an accuracy over draws of n test rows. Seeds are not in it."""
    p = num_correct / num_examples
    return 100.0 * math.sqrt(p * (1.0 - p) / num_examples)


def unpaired_difference(a: tuple[int, int], b: tuple[int, int]) -> Difference:
    """Difference of two (num_correct, num_examples), as if their rows were drawn apart: SE² = SE_a² + SE_b²."""
    points = 100.0 * (a[0] / a[1] - b[0] / b[1])
    standard_error = math.hypot(accuracy_standard_error(*a), accuracy_standard_error(*b))
    return Difference(points, standard_error, num_examples=min(a[1], b[1]), paired=False)


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
    return Difference(100.0 * mean, 100.0 * math.sqrt(max(variance, 0.0) / n), num_examples=n, paired=True)
