"""Draws of a mixture: shuffled passes, and tasks that take turns by their rates."""

import collections

import numpy as np
import pytest

from stepdistill_jax.engine.data.draws import DrawOrder, said_of_uneven, shares, shuffled, task_turns


def test_a_shuffle_is_a_permutation_that_depends_on_seed_task_and_pass():
    orders = {
        (seed, name, epoch): tuple(shuffled(50, seed=seed, name=name, epoch=epoch))
        for seed in (0, 1, 2**31)
        for name in ("svamp_label", "svamp_rationale", "a", "b", "1", "")
        for epoch in (0, 1, 10)
    }
    assert all(sorted(order) == list(range(50)) for order in orders.values())
    # Seed 0 of one name is no seed 1 of another.
    assert len(set(orders.values())) == len(orders)


def test_a_shuffle_is_the_same_everywhere_and_for_ever():
    # Written down from this implementation: a change would put every resumed run into another order.
    assert shuffled(10, seed=0, name="svamp_label", epoch=0).tolist() == [3, 2, 7, 5, 4, 1, 0, 8, 9, 6]
    assert shuffled(10, seed=7, name="svamp_rationale", epoch=3).tolist() == [2, 7, 1, 6, 8, 9, 5, 4, 3, 0]


def test_a_shuffle_prefers_no_place():
    """Each of 20 examples comes first in about 1 of 20 of 2000 passes: within 5 standard deviations of 9.7."""
    first = collections.Counter(int(shuffled(20, seed=0, name="x", epoch=epoch)[0]) for epoch in range(2000))
    assert all(abs(first[example] - 100) < 49 for example in range(20))


RATES = [[1.0, 1.0], [3.0, 1.0], [0.1, 0.7], [1.0, 0.0], [0.0, 2.0], [2, 3, 5]]


@pytest.mark.parametrize("rates", RATES)
def test_rates_are_kept_as_evenly_as_can_be(rates):
    tasks, earlier = task_turns(np.arange(400), shares(rates))
    turns = [0] * len(rates)
    for draw, (task, turn) in enumerate(zip(tasks, earlier, strict=True)):
        assert turn == turns[task]
        turns[task] += 1
        expected = [(draw + 1) * rate / sum(rates) for rate in rates]
        assert all(abs(turn - share) < 2 for turn, share in zip(turns, expected, strict=True))
    assert turns == [round(400 * rate / sum(rates)) for rate in rates]


@pytest.mark.parametrize("rates", RATES)
def test_turns_of_draws_far_on_are_those_counted_from_the_beginning(rates):
    tasks, turns = task_turns(np.arange(3000), shares(rates))
    far_tasks, far_turns = task_turns(np.arange(2500, 3000), shares(rates))
    np.testing.assert_array_equal(tasks[2500:], far_tasks)
    np.testing.assert_array_equal(turns[2500:], far_turns)


def test_very_uneven_rates_stay_within_64_bits():
    whole = shares([1.0, 1e-6, 0.123457, 0.333333])
    assert sum(whole) <= 2**30 + 4
    far = 10**15
    tasks, turns = task_turns(np.arange(far, far + 100), whole)
    np.testing.assert_allclose(turns[tasks == 0], far / 1.456791, rtol=1e-6)


@pytest.mark.parametrize("rates", [[1.0, -1.0], [0.0, 0.0]])
def test_impossible_rates_are_named(rates):
    with pytest.raises(ValueError, match="none may be negative, and one must be above 0"):
        shares(rates)


def make_order(**settings):
    usual = {"names": ["label", "rationale"], "num_examples": [7, 11], "rates": [1.0, 1.0], "seed": 3}
    return DrawOrder(**{**usual, "shuffle": True, **settings})


def test_a_few_examples_that_fill_half_of_all_draws_are_said():
    names = ["sums_label", "sums_rationale"]
    said = said_of_uneven(names, [600, 5], [1.0, 1.0])
    assert said.startswith(
        "sums_rationale has 5 examples beside 600 of sums_label, and fills 50% of all draws"
    )
    assert "120 times for one pass" in said
    assert said_of_uneven(names, [600, 5], [600, 5]) is None  # by size
    assert said_of_uneven(names, [600, 61], [1.0, 1.0]) is None
    assert "60 times" in said_of_uneven(names, [600, 5], [2.0, 1.0])
    assert said_of_uneven(names[:1], [600], [1.0]) is None
    assert said_of_uneven(names, [600, 5], [1.0, 0.0]) is None  # never drawn
    assert said_of_uneven(names, [600, 5], [0.0, 0.0]) is None


def test_a_pass_of_each_task_goes_by_its_own_count():
    tasks, indices = make_order().examples(0, 2 * 7 * 11)
    of_label = indices[tasks == 0].tolist()
    for start in range(0, len(of_label), 7):
        assert sorted(of_label[start : start + 7]) == list(range(7))
    assert of_label[:7] != of_label[7:14]


def test_draws_looked_up_in_parts_are_those_looked_up_at_once():
    whole = make_order().examples(0, 300)
    order = make_order()
    parts = [order.examples(first, first + 60) for first in (240, 0, 60, 180, 120)]
    for place in (0, 1):
        in_order = np.concatenate([parts[part][place] for part in (1, 2, 4, 3, 0)])
        np.testing.assert_array_equal(in_order, whole[place])


def test_another_seed_gives_another_order_and_no_shuffling_the_order_of_the_data():
    def order(**settings):
        one_task = {"names": ["label"], "num_examples": [7], "rates": [1.0]}
        return make_order(**one_task, **settings).examples(0, 14)[1].tolist()

    assert order(seed=3) == order(seed=3)
    assert order(seed=3) != order(seed=4)
    assert order(shuffle=False) == [0, 1, 2, 3, 4, 5, 6] * 2
