"""Accuracies over seeds, and the paired test between two methods that were scored on the same test rows."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.stats
from jaxtyping import Bool, Float, Int

from stepdistill_jax.report.statistics.noise import LEVEL, mcnemar

NUM_REPLICATES = 10_000
_BLOCK = 500  # replicates at a time, so that 10,000 kinds of rows need 40 MB and not 800
_SEED = 0  # of the bootstrap: the same inputs give the same report


@dataclass(frozen=True)
class OverSeeds:
    """Mean accuracy over seeds in percent, and its standard error in points (None from one seed)."""

    mean: float
    standard_error: float | None
    num_seeds: int


def over_seeds(percents: Sequence[float]) -> OverSeeds:
    """Mean, and s / sqrt(n) with the sample standard deviation s (n - 1 in its denominator)."""
    values = np.asarray(percents, np.float64)
    error = float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else None
    return OverSeeds(float(values.mean()), error, len(values))


@dataclass(frozen=True)
class PairedTest:
    """Mean accuracy of a minus that of b in points, with a bootstrap's standard error, 95 % interval and p-value."""

    points: float
    standard_error: float
    low: float
    high: float
    p_value: float  # two-sided
    num_examples: int
    num_seeds: tuple[int, int]
    mcnemar_p: float | None  # exact, where each side has one seed
    seeds_p: float | None  # of a t-test over seeds, where each side has several

    @property
    def below_noise(self) -> bool:
        """Of single models, whether the exact test says so. Of several, whether the 95 % interval holds 0, seeds spread too much
        for a difference at 5 %, or no outcome on so few rows could pass the sign test at 5 %."""
        if self.mcnemar_p is not None:
            return self.mcnemar_p >= LEVEL
        spread = self.seeds_p is not None and self.seeds_p >= LEVEL
        return self.low <= 0.0 <= self.high or spread or 2.0 ** (1 - self.num_examples) >= LEVEL


def paired_test(
    a: Bool[np.ndarray, "seeds_a rows"],
    b: Bool[np.ndarray, "seeds_b rows"],
    *,
    seeds_paired: bool = False,
    num_replicates: int = NUM_REPLICATES,
) -> PairedTest:
    """Hierarchical bootstrap over test rows and seeds of mean(a) - mean(b).

    A replicate draws rows with replacement, the same ones for both sides, and of n seeds n - 1 with replacement, which
    makes the variance between seeds unbiased (Rao and Wu 1988; n of n would halve it for two seeds). The percentile
    interval and p = 2 min(P(d <= 0), P(d >= 0)) come from the replicates (Efron and Tibshirani 1993, ch. 13 and 16).
    Each seed's own noise over rows is in both draws (Owen 2007), which is careful where rows are few. Where they are many and
    seeds spread more than rows do, a percentile interval of 2 or 3 seeds is too short (of made-up equal methods up to a third
    pass), so a difference must pass a t-test over seeds, too. From one seed a side, seeds are not drawn: the test then
    speaks of these two models, and McNemar's exact test is given too.

    Args:
      a, b: whether each seed's answer to each row is right; the same rows in the same order.
      seeds_paired: row i of `a` and of `b` have the same seed (thus data and order): they are drawn together.
      num_replicates: how often; the last digit of p is 1 / num_replicates.

    Raises:
      ValueError: the sides have different or no rows, or `seeds_paired` with different numbers of seeds.
    """
    if a.shape[1] != b.shape[1] or not a.shape[1]:
        raise ValueError(f"paired_test: {a.shape[1]} and {b.shape[1]} rows; give the same rows of both sides")
    if seeds_paired and len(a) != len(b):
        raise ValueError(f"paired_test: {len(a)} and {len(b)} seeds cannot be paired; set seeds_paired=False")
    generator = np.random.default_rng(_SEED)
    # Rows with the same answers are drawn as one, as often as they are: at most 2 ** seeds kinds, not 9,824 rows.
    kinds, counts = np.unique(np.concatenate([a, b]), axis=1, return_counts=True)
    sides = np.split(kinds, [len(a)])
    blocks = [
        _replicates(
            *sides, counts, generator, count=min(_BLOCK, num_replicates - start), seeds_paired=seeds_paired
        )
        for start in range(0, num_replicates, _BLOCK)
    ]
    replicates = np.concatenate(blocks)
    low, high = np.percentile(replicates, [2.5, 97.5])
    tiny = 1e-9  # points: a sum of weights that is 0 may come out as 1e-15
    tail = min(np.sum(replicates <= tiny), np.sum(replicates >= -tiny))
    return PairedTest(
        points=100.0 * float(a.mean() - b.mean()),
        standard_error=float(replicates.std(ddof=1)),
        low=float(low),
        high=float(high),
        p_value=min(1.0, 2.0 * (int(tail) + 1) / (num_replicates + 1)),
        num_examples=a.shape[1],
        num_seeds=(len(a), len(b)),
        mcnemar_p=mcnemar(int(np.sum(a & ~b)), int(np.sum(b & ~a))) if len(a) == len(b) == 1 else None,
        seeds_p=_t_test(a.mean(axis=1), b.mean(axis=1), paired=seeds_paired)
        if min(len(a), len(b)) > 1
        else None,
    )


def _t_test(a: Float[np.ndarray, " seeds_a"], b: Float[np.ndarray, " seeds_b"], *, paired: bool) -> float:
    """Two-sided p of Student's test of paired accuracies, else of Welch's."""
    spread = (a - b).std() if paired else a.std() + b.std()
    if spread < 1e-9:  # no difference between seeds to measure by
        return 1.0 if abs(a.mean() - b.mean()) < 1e-12 else 0.0
    if paired:
        error = (a - b).std(ddof=1) / math.sqrt(len(a))
        return float(2.0 * scipy.stats.t.sf(abs(a.mean() - b.mean()) / error, len(a) - 1))
    sides = [number for side in (a, b) for number in (side.mean(), side.std(ddof=1), len(side))]
    return float(scipy.stats.ttest_ind_from_stats(*sides, equal_var=False).pvalue)


def _replicates(
    a: Bool[np.ndarray, "seeds_a kinds"],
    b: Bool[np.ndarray, "seeds_b kinds"],
    kind_counts: Int[np.ndarray, " kinds"],
    generator: np.random.Generator,
    *,
    count: int,
    seeds_paired: bool,
) -> Float[np.ndarray, " count"]:
    """Differences in points of `count` replicates."""
    num_rows = kind_counts.sum()
    # How many rows of each kind are drawn: [count, kinds].
    row_counts = generator.multinomial(num_rows, kind_counts / num_rows, size=count).astype(float)
    seeds_a = _seed_shares(generator, count, len(a))
    seeds_b = seeds_a if seeds_paired else _seed_shares(generator, count, len(b))
    means_a, means_b = row_counts @ a.T.astype(float), row_counts @ b.T.astype(float)  # [count, seeds]
    difference = np.sum(seeds_a * means_a, axis=1) - np.sum(seeds_b * means_b, axis=1)
    return 100.0 * difference / num_rows


def _seed_shares(
    generator: np.random.Generator, count: int, num_seeds: int
) -> Float[np.ndarray, "count seeds"]:
    num_drawn = max(1, num_seeds - 1)
    return generator.multinomial(num_drawn, np.full(num_seeds, 1.0 / num_seeds), size=count) / num_drawn
