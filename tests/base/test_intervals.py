"""Wilson's interval against published values."""

import pytest

from stepdistill_jax.base.intervals import wilson_interval


@pytest.mark.parametrize(
    ("correct", "total", "low", "high"),
    [
        # Newcombe 1998 (Statistics in Medicine 17: 857-872), Table I, method 3.
        (81, 263, 25.53, 36.62),
        (15, 148, 6.24, 16.05),
        (0, 20, 0.0, 16.11),
        (1, 29, 0.61, 17.18),
    ],
)
def test_interval_is_the_published_one(correct, total, low, high):
    assert wilson_interval(correct, total) == (pytest.approx(low, abs=0.01), pytest.approx(high, abs=0.01))


def test_interval_stays_within_0_and_100():
    assert wilson_interval(3, 3)[1] == 100.0
    assert wilson_interval(0, 1)[0] == 0.0


def test_the_share_itself_is_never_outside():
    for num_examples in (1, 3, 30, 500, 1_221, 9_824):
        for num_correct in {0, 1, num_examples // 2, num_examples - 1, num_examples}:
            low, high = wilson_interval(num_correct, num_examples)
            assert 0.0 <= low <= 100 * (num_correct / num_examples) <= high <= 100.0
