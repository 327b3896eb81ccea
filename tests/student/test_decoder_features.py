"""A language model's batch: inputs and targets in one row, the task of every target token beside them."""

import numpy as np
import pytest
import seqio
import tensorflow as tf

from stepdistill_jax.student.features import StepByStepDecoderFeatureConverter

# The two examples of the class's docstring.
EXAMPLES = [
    {"inputs": [7, 8, 5, 1], "targets": [3, 1], "task_ids": [1, 1]},
    {"inputs": [9, 8, 5, 1], "targets": [4, 6, 6, 1], "task_ids": [2, 2, 2, 2]},
]
LENGTHS = {"inputs": 8, "targets": 8}
PACKED = {
    "decoder_target_tokens": [7, 8, 5, 1, 3, 1, 9, 8, 5, 1, 4, 6, 6, 1, 0, 0],
    "decoder_input_tokens": [0, 7, 8, 5, 1, 3, 0, 9, 8, 5, 1, 4, 6, 6, 0, 0],
    "decoder_loss_weights": [0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 1, 1, 1, 1, 0, 0],
    "decoder_causal_attention": [1, 1, 1, 1, 1, 0, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0],
    "decoder_task_ids": [0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 2, 2, 2, 2, 0, 0],
    "decoder_segment_ids": [1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 0, 0],
    "decoder_positions": [0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5, 6, 7, 0, 0],
}


def dataset_of(examples):
    return tf.data.Dataset.from_generator(
        lambda: iter(examples),
        output_signature={name: tf.TensorSpec([None], tf.int32) for name in examples[0]},
    )


def convert(pack, lengths=LENGTHS, examples=EXAMPLES, **settings):
    converter = StepByStepDecoderFeatureConverter(pack=pack, **settings)
    return list(converter(dataset_of(examples), lengths).as_numpy_iterator())


def assert_same_rows(row, expected):
    assert set(row) == set(expected)
    for name, values in expected.items():
        np.testing.assert_array_equal(row[name], values, err_msg=name)


def test_seqio_packing_gives_the_example_of_the_docstring():
    (row,) = convert(pack=True)
    assert_same_rows(row, PACKED)


def test_unpacked_rows_have_task_0_on_inputs_and_padding():
    label, rationale = convert(pack=False)
    np.testing.assert_array_equal(label["decoder_task_ids"], [0] * 4 + [1] * 2 + [0] * 10)
    np.testing.assert_array_equal(rationale["decoder_task_ids"], [0] * 4 + [2] * 4 + [0] * 8)
    np.testing.assert_array_equal(rationale["decoder_target_tokens"], [9, 8, 5, 1, 4, 6, 6, 1] + [0] * 8)


@pytest.mark.parametrize("pack", [False, True])
def test_task_ids_may_be_left_out_of_the_lengths_and_make_no_row_longer(pack):
    given = convert(pack, {**LENGTHS, "task_ids": 8})
    for row, expected in zip(convert(pack), given, strict=True):
        assert_same_rows(row, expected)
        assert {len(values) for values in row.values()} == {16}


def test_task_ids_of_another_length_than_the_targets_are_refused():
    with pytest.raises(ValueError, match=r"task_ids=5, targets=8.*leave task_ids out"):
        convert(pack=True, lengths={**LENGTHS, "task_ids": 5})


@pytest.mark.parametrize("pack", [False, True])
@pytest.mark.parametrize("on_targets_only", [False, True])
def test_the_other_features_are_those_of_seqio(pack, on_targets_only):
    examples = [*EXAMPLES, {"inputs": [], "targets": [5, 6, 1], "task_ids": [2, 2, 2]}]
    ours = convert(pack, examples=examples, loss_on_targets_only=on_targets_only)
    pairs = dataset_of([{name: example[name] for name in ("inputs", "targets")} for example in examples])
    theirs = seqio.PrefixLMFeatureConverter(pack=pack, loss_on_targets_only=on_targets_only)(pairs, LENGTHS)
    for row, expected in zip(ours, theirs.as_numpy_iterator(), strict=True):
        task_ids = row.pop("decoder_task_ids")
        assert_same_rows(row, expected)
        if on_targets_only:
            np.testing.assert_array_equal(task_ids > 0, row["decoder_loss_weights"] > 0)


def test_an_example_without_targets_has_no_task():
    (row,) = convert(pack=False, examples=[{"inputs": [7, 8, 1], "targets": [], "task_ids": []}])
    assert not row["decoder_task_ids"].any()
    np.testing.assert_array_equal(row["decoder_target_tokens"], [7, 8, 1] + [0] * 13)


def test_model_feature_lengths_name_every_feature_of_a_batch():
    converter = StepByStepDecoderFeatureConverter(pack=True)
    lengths = converter.get_model_feature_lengths({**LENGTHS, "task_ids": 8})
    assert lengths == {name: len(values) for name, values in PACKED.items()}
