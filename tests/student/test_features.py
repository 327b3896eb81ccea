import numpy as np
import pytest
import seqio
import tensorflow as tf

from stepdistill_jax.engine.data.tokenized_task import TokenizedTask
from stepdistill_jax.engine.data.train_stream import TrainStream
from stepdistill_jax.student.features import StepByStepFeatureConverter

# The two examples of the class's docstring.
EXAMPLES = [
    {"inputs": [7, 8, 5, 1], "targets": [3, 1], "task_ids": [1, 1]},
    {"inputs": [9, 8, 5, 1], "targets": [4, 6, 6, 1], "task_ids": [2, 2, 2, 2]},
]
LENGTHS = {"inputs": 10, "targets": 8}
PACKED = {
    "encoder_input_tokens": [7, 8, 5, 1, 9, 8, 5, 1, 0, 0],
    "decoder_target_tokens": [3, 1, 4, 6, 6, 1, 0, 0],
    "decoder_input_tokens": [0, 3, 0, 4, 6, 6, 0, 0],
    "decoder_task_ids": [1, 1, 2, 2, 2, 2, 0, 0],
    "decoder_loss_weights": [1, 1, 1, 1, 1, 1, 0, 0],
    "encoder_segment_ids": [1, 1, 1, 1, 2, 2, 2, 2, 0, 0],
    "decoder_segment_ids": [1, 1, 2, 2, 2, 2, 0, 0],
    "encoder_positions": [0, 1, 2, 3, 0, 1, 2, 3, 0, 0],
    "decoder_positions": [0, 1, 0, 1, 2, 3, 0, 0],
}


def examples_dataset():
    return tf.data.Dataset.from_generator(
        lambda: iter(EXAMPLES),
        output_signature={name: tf.TensorSpec([None], tf.int32) for name in EXAMPLES[0]},
    )


def convert(pack, lengths=LENGTHS):
    return list(StepByStepFeatureConverter(pack=pack)(examples_dataset(), lengths).as_numpy_iterator())


def assert_same_rows(row, expected):
    assert set(row) == set(expected)
    for name, values in expected.items():
        np.testing.assert_array_equal(row[name], values, err_msg=name)


def test_seqio_packing_gives_the_example_of_the_docstring():
    (row,) = convert(pack=True)
    assert_same_rows(row, PACKED)


def test_our_packing_gives_what_seqio_packing_gives():
    task = TokenizedTask(
        name="two",
        tokens={name: np.array(EXAMPLES[0][name] + EXAMPLES[1][name], np.int32) for name in EXAMPLES[0]},
        offsets={
            name: np.cumsum([0, len(EXAMPLES[0][name]), len(EXAMPLES[1][name])]) for name in EXAMPLES[0]
        },
    )
    stream = TrainStream(
        [task], [1.0], converter_cls=StepByStepFeatureConverter, lengths={**LENGTHS, "task_ids": 8}, batch_size=1,
        seed=0, shuffle=False, num_epochs=1,
    )  # fmt: skip
    (batch,) = stream.batches()
    assert_same_rows({name: rows[0] for name, rows in batch.items()}, PACKED)


def test_unpacked_rows_are_padded_with_task_0():
    label, rationale = convert(pack=False)
    np.testing.assert_array_equal(label["decoder_task_ids"], [1, 1, 0, 0, 0, 0, 0, 0])
    np.testing.assert_array_equal(rationale["decoder_task_ids"], [2, 2, 2, 2, 0, 0, 0, 0])
    np.testing.assert_array_equal(rationale["decoder_target_tokens"], [4, 6, 6, 1, 0, 0, 0, 0])


@pytest.mark.parametrize("pack", [False, True])
def test_task_ids_may_be_left_out_of_the_lengths(pack):
    without = convert(pack)
    given = convert(pack, {**LENGTHS, "task_ids": 8})
    for row, expected in zip(without, given, strict=True):
        assert_same_rows(row, expected)


def test_task_ids_of_another_length_than_the_targets_are_refused():
    with pytest.raises(ValueError, match=r"task_ids=5, targets=8.*leave task_ids out"):
        convert(pack=True, lengths={**LENGTHS, "task_ids": 5})


@pytest.mark.parametrize("pack", [False, True])
def test_the_other_features_are_those_of_seqio(pack):
    ours = convert(pack)
    pairs = examples_dataset().map(lambda example: {name: example[name] for name in ("inputs", "targets")})
    theirs = seqio.EncDecFeatureConverter(pack=pack)(pairs, LENGTHS).as_numpy_iterator()
    for row, expected in zip(ours, theirs, strict=True):
        assert_same_rows({name: row[name] for name in row if name != "decoder_task_ids"}, expected)


def test_model_feature_lengths_name_every_feature_of_a_batch():
    lengths = StepByStepFeatureConverter(pack=True).get_model_feature_lengths({**LENGTHS, "task_ids": 8})
    assert lengths == {name: len(values) for name, values in PACKED.items()}
