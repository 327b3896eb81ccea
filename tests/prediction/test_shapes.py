"""Batches of a few shapes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepdistill_jax.prediction import shapes


@pytest.mark.parametrize(
    ("most_tokens", "lengths"),
    [
        (12, (16,)),
        (16, (16,)),
        (40, (16, 32, 40)),
        (130, (16, 32, 64, 128, 136)),
        (512, (16, 32, 64, 128, 256, 512)),
    ],
)
def test_lengths_double_up_to_the_longest(most_tokens, lengths):
    assert shapes.lengths_up_to(most_tokens) == lengths


def test_rows_come_in_powers_of_four_over_all_devices():
    assert shapes.rows_up_to(100) == (1, 4, 16, 64)
    assert shapes.rows_up_to(100, multiple=8) == (8, 32)
    assert shapes.rows_up_to(0, multiple=8) == (8,)


@given(st.lists(st.integers(1, 64), max_size=300))
def test_every_text_is_in_one_batch_that_holds_it(lengths):
    sizes = shapes.lengths_up_to(64)
    rows_of = {size: shapes.rows_up_to(256 // size) for size in sizes}
    found = list(shapes.batches(lengths, sizes, rows_of))
    assert sorted(place for _, _, places in found for place in places) == list(range(len(lengths)))
    for length, rows, places in found:
        assert rows in rows_of[length]
        assert 4 * len(places) >= 3 * rows
        assert all(lengths[place] <= length for place in places)


def test_a_text_s_shape_does_not_depend_on_its_neighbours():
    sizes = shapes.lengths_up_to(64)
    rows_of = {size: (1, 4) for size in sizes}
    found = {
        place: length
        for length, _, places in shapes.batches([5, 60, 60, 60], sizes, rows_of)
        for place in places
    }
    assert found == {0: 16, 1: 64, 2: 64, 3: 64}
