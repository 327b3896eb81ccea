"""Row lengths and rows of a pass, from the lengths of texts."""

import numpy as np
import pytest

from stepdistill_jax.launching.named import measuring
from stepdistill_jax.launching.named.measuring import TaskTexts


def texts(inputs, targets, *, learns_labels=True, num_examples=None):
    lengths = {"inputs": np.array(inputs), "targets": np.array(targets)}
    return TaskTexts("task", lengths, num_examples or len(inputs), learns_labels)


def test_a_row_holds_the_longest_input_where_it_is_no_outlier():
    length = measuring.inputs_length([texts([10] * 99 + [14], [2] * 100)], most=1024)
    assert (length.tokens, length.note) == (16, "the longest training input has 14")


def test_a_few_inputs_far_longer_than_all_others_are_cut_and_counted():
    length = measuring.inputs_length([texts([20] * 199 + [900], [2] * 200)], most=1024)
    assert length.tokens == 24
    assert length.note == "0.5 % of the training inputs are longer, up to 900, and are cut"


def test_no_row_is_longer_than_the_most():
    assert measuring.inputs_length([texts([3000], [2])], most=1024).tokens == 1024


def test_targets_hold_every_label_and_nearly_every_rationale():
    label, rationale = texts([9] * 4, [3, 3, 3, 30]), texts([9] * 4, [10, 12, 11, 12], learns_labels=False)
    assert measuring.targets_length([label], most=256) == measuring.Length(32, "the longest target has 30")
    assert measuring.targets_length([label, rationale], most=256).note == "the longest label has 30"
    longer = texts([9] * 4, [50, 60, 51, 52], learns_labels=False)
    assert measuring.targets_length([label, longer], most=256).tokens == 64
    assert measuring.targets_length([label, longer], most=8).tokens == 32  # a label is never cut


def test_rows_of_a_pass_count_both_features_and_every_task_equally_often():
    lengths = {"inputs": 30, "targets": 10}
    assert measuring.rows_of_a_pass([texts([10] * 6, [1] * 6)], lengths) == 2
    assert measuring.rows_of_a_pass([texts([10] * 6, [5] * 6)], lengths) == 3
    half = texts([30] * 3, [1] * 3, learns_labels=False)  # half of the examples have a rationale
    assert measuring.rows_of_a_pass([texts([10] * 6, [1] * 6), half], lengths) == 2 + 2 * 3
    assert measuring.rows_of_a_pass([texts([10] * 6, [1] * 6, num_examples=600)], lengths) == 200


@pytest.mark.parametrize(("rows", "most", "expected"), [(10, 64, 8), (300, 64, 16), (100_000, 64, 64)])
def test_a_pass_has_enough_steps_and_rows_split_over_devices(rows, most, expected):
    from stepdistill_jax.launching.named import planning
    from stepdistill_jax.launching.named.students import Budget

    # Eight devices: four rows would not split over them.
    assert planning._batch_size(rows, Budget(most, 1000, 30, 0.001)) == expected


def test_inputs_and_targets_of_a_language_model_share_a_row():
    task = texts([6] * 8, [2] * 8)
    apart = measuring.rows_of_a_pass([task], {"inputs": 12, "targets": 20})
    joined = measuring.rows_of_a_pass([task], {"inputs": 12, "targets": 20}, joined=True)
    assert (apart, joined) == (4, 2)
