"""Means over seeds and the paired test agree with direct computations on small cases."""

import itertools
import math

import numpy as np
import pytest
import scipy.stats

from stepdistill_jax.report.statistics.noise import mcnemar
from stepdistill_jax.report.statistics.paired_tests import over_seeds, paired_test

A = np.array([[True, True, False], [True, False, True], [True, True, True]])
B = np.array([[False, True, False], [False, False, True], [True, False, False]])


def every_resample(a: np.ndarray, b: np.ndarray, *, seeds_paired: bool) -> np.ndarray:
    """The differences in points of all equally likely draws of rows and seeds, by plain loops."""
    rows, seeds_a, seeds_b = range(a.shape[1]), range(len(a)), range(len(b))
    found = []
    for chosen in itertools.product(rows, repeat=len(rows)):
        for drawn_a in itertools.product(seeds_a, repeat=len(a) - 1):
            draws_b = [drawn_a] if seeds_paired else itertools.product(seeds_b, repeat=len(b) - 1)
            for drawn_b in draws_b:
                of_a = [a[seed, row] for seed in drawn_a for row in chosen]
                of_b = [b[seed, row] for seed in drawn_b for row in chosen]
                found.append(100.0 * (sum(of_a) / len(of_a) - sum(of_b) / len(of_b)))
    return np.array(found)


@pytest.mark.parametrize("seeds_paired", [True, False])
def test_paired_test_agrees_with_every_resample_of_a_small_case(seeds_paired):
    exact = every_resample(A, B, seeds_paired=seeds_paired)
    test = paired_test(A, B, seeds_paired=seeds_paired, num_replicates=40_000)
    assert test.points == pytest.approx(100.0 * (7 - 3) / 9)
    # Monte Carlo errors of 40,000 draws: 0.4 % of the standard error, and 0.0025 of a probability of 1/2.
    assert test.standard_error == pytest.approx(exact.std(), rel=0.02)
    tail = min(np.mean(exact <= 1e-9), np.mean(exact >= -1e-9))
    assert test.p_value == pytest.approx(2 * tail, abs=0.02)
    assert test.low == pytest.approx(np.percentile(exact, 2.5), abs=1e-9)
    assert test.high == pytest.approx(np.percentile(exact, 97.5), abs=1e-9)


def test_from_one_seed_the_error_is_that_of_the_paired_rows():
    generator = np.random.default_rng(1)
    a, b = generator.random((1, 500)) < 0.6, generator.random((1, 500)) < 0.5
    d = a[0].astype(float) - b[0].astype(float)
    test = paired_test(a, b)
    assert test.standard_error == pytest.approx(100 * d.std() / math.sqrt(500), rel=0.03)
    assert test.mcnemar_p == mcnemar(int((a & ~b).sum()), int((b & ~a).sum()))


def test_equal_methods_are_below_the_noise_and_far_ones_are_not():
    same = np.array([[True, False] * 50])
    assert paired_test(same, same).below_noise
    assert paired_test(same, same).p_value == 1.0
    assert not paired_test(np.ones((3, 50), bool), np.zeros((3, 50), bool), seeds_paired=True).below_noise


def test_a_few_rows_show_nothing_whatever_they_say():
    assert paired_test(np.ones((1, 4), bool), np.zeros((1, 4), bool)).below_noise
    assert not paired_test(np.ones((1, 9), bool), np.zeros((1, 9), bool)).below_noise


def test_equal_methods_whose_two_seeds_differ_seldom_look_different():
    """300 made-up experiments, 200 rows, a spread of 4 points between seeds: 5 % pass; drawing both seeds, 11 % do."""
    generator = np.random.default_rng(3)
    passed = 0
    for _ in range(300):
        hard = generator.normal(size=200)
        sides = [
            generator.normal(size=(2, 200)) + hard + generator.normal(scale=0.15, size=(2, 1)) > 0
            for _ in range(2)
        ]
        passed += not paired_test(*sides, num_replicates=500).below_noise
    assert 0 < passed / 300 < 0.08


def test_equal_methods_of_many_rows_and_spread_seeds_seldom_look_different():
    """200 made-up experiments of 2 seeds, 5,000 rows and a spread of 3 points between seeds: far more rows than seeds."""
    generator = np.random.default_rng(5)
    tests = [
        paired_test(
            *(generator.random((2, 5000)) < generator.normal(0.5, 0.03, size=(2, 1)) for _ in range(2)),
            num_replicates=300,
        )
        for _ in range(200)
    ]
    assert sum(not test.below_noise for test in tests) / 200 < 0.08
    assert (
        sum(not test.low <= 0.0 <= test.high for test in tests) / 200 > 0.1
    )  # what the bootstrap alone would say


def test_p_over_seeds_is_student_s():
    a = np.array([[True] * k + [False] * (100 - k) for k in (50, 52, 57)])
    b = np.array([[True] * k + [False] * (100 - k) for k in (49, 47, 48)])
    # Differences 1, 5 and 9 points: t = 5 / (4 / sqrt(3)) with 2 degrees of freedom.
    t = 5 / (4 / math.sqrt(3))
    expected = 1 - t / math.sqrt(t * t + 2)
    assert paired_test(a, b, seeds_paired=True).seeds_p == pytest.approx(expected)
    assert paired_test(a[:1], b[:1]).seeds_p is None
    assert paired_test(a, a, seeds_paired=True).seeds_p == 1.0


def test_the_same_rows_give_the_same_test():
    assert paired_test(A, B) == paired_test(A, B)


def test_a_spread_over_seeds_widens_the_error():
    generator = np.random.default_rng(2)
    steady = generator.random((4, 300)) < 0.5
    jumping = np.stack([generator.random(300) < p for p in (0.2, 0.4, 0.6, 0.8)])
    base = generator.random((4, 300)) < 0.5
    assert paired_test(jumping, base).standard_error > 2 * paired_test(steady, base).standard_error


def test_mcnemar_is_the_sign_test_of_the_discordant_rows():
    assert mcnemar(8, 2) == mcnemar(2, 8) == pytest.approx(2 * scipy.stats.binom.cdf(2, 10, 0.5))
    assert mcnemar(0, 0) == 1.0


def test_standard_error_over_seeds_is_s_over_root_n_and_unknown_from_one():
    summary = over_seeds([60.0, 62.0, 67.0])
    assert summary.mean == 63.0
    assert summary.standard_error == pytest.approx(math.sqrt(13.0 / 3))  # s² = (9 + 1 + 16) / 2
    assert over_seeds([60.0]).standard_error is None


def test_different_rows_or_seeds_are_refused():
    with pytest.raises(ValueError, match="3 and 2 rows"):
        paired_test(A, B[:, :2])
    with pytest.raises(ValueError, match="3 and 1 seeds"):
        paired_test(A, B[:1], seeds_paired=True)
