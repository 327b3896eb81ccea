"""Decoding a dataset in batches of like length: the same results, in the dataset's order."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tensorflow as tf
from jax.sharding import PartitionSpec

from stepdistill_jax.engine.evaluate import inference
from stepdistill_jax.engine.partition.partitioning import PjitPartitioner

BATCH_SIZE = 8


@pytest.fixture(scope="module")
def partitioner():
    return PjitPartitioner(num_partitions=1)


def state_of(params):
    return types.SimpleNamespace(params=params)  # all that inference reads of a state


def rows(num_examples, *, length=40, seed=0):
    """Examples of 1 to `length` input tokens."""
    rng = np.random.default_rng(seed)
    inputs = np.zeros((num_examples, length), np.int32)
    for row, size in enumerate(rng.integers(1, length + 1, num_examples)):
        inputs[row, :size] = rng.integers(2, 40, size)
    return {"encoder_input_tokens": inputs, "decoder_input_tokens": np.zeros((num_examples, 6), np.int32)}


def enumerated(examples):
    return tf.data.Dataset.from_tensor_slices(examples).enumerate(start=100)


def summed(shapes):
    """A step that gives the sum of each row's inputs, and notes the shapes that it was compiled for."""

    def step(params, batch):
        shapes.append((batch["encoder_input_tokens"].shape[1], batch["decoder_input_tokens"].shape[1]))
        return {"sum": batch["encoder_input_tokens"].sum(axis=1) + params["bias"]}

    return step


@pytest.mark.parametrize("num_examples", [3, 64, 77, 300])
def test_results_come_back_in_the_order_of_the_data(partitioner, num_examples, monkeypatch):
    monkeypatch.setattr(inference, "_BATCHES_A_WINDOW", 20)  # 300 examples are two windows
    examples, shapes = rows(num_examples), []
    axes = state_of({"bias": PartitionSpec()})
    infer = inference.get_infer_fn(summed(shapes), BATCH_SIZE, axes, partitioner)
    results = infer(enumerated(examples), state_of({"bias": jnp.array(1)}))
    assert [index for index, _ in results] == list(range(100, 100 + num_examples))
    expected = examples["encoder_input_tokens"].sum(axis=1) + 1
    assert [int(output["sum"]) for _, output in results] == expected.tolist()
    if num_examples > 64:
        assert 1 < len(shapes) <= 4
        assert set(shapes) <= {(16, 6), (24, 6), (32, 6), (40, 6)}
    else:  # a few batches are not worth compiling more than once
        assert shapes == [(40, 6)]


def test_inputs_of_one_length_compile_once(partitioner):
    shapes = []
    infer = inference.get_infer_fn(
        summed(shapes), BATCH_SIZE, state_of({"bias": PartitionSpec()}), partitioner
    )
    examples = {
        name: np.ones((80, 12), np.int32) for name in ("encoder_input_tokens", "decoder_input_tokens")
    }
    infer(enumerated(examples), state_of({"bias": jnp.array(0)}))
    assert shapes == [(12, 12)]


def test_cutting_padding_changes_no_decoded_token(
    partitioner, make_model, make_params, quick_compilation, monkeypatch
):
    model = make_model()
    params = make_params(model)
    examples = rows(24)
    axes = state_of(jax.tree.map(lambda _: PartitionSpec(), params))
    decoded = []
    for fewest_batches in (1, 1000):
        monkeypatch.setattr(inference, "_FEWEST_BATCHES_TO_CUT", fewest_batches)
        infer = inference.get_infer_fn(
            lambda params, batch: model.predict_batch(params, batch), BATCH_SIZE, axes, partitioner
        )
        decoded.append(np.stack([tokens for _, tokens in infer(enumerated(examples), state_of(params))]))
    np.testing.assert_array_equal(*decoded)
    assert decoded[0].any()
