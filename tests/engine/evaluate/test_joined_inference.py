"""Decoding rows of inputs and targets together: cut to their inputs, the room for the targets kept."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import seqio
import tensorflow as tf
from jax.sharding import PartitionSpec

from stepdistill_jax.engine.decode import decoding
from stepdistill_jax.engine.evaluate import inference
from stepdistill_jax.engine.evaluate.prompt_rows import prompt_row
from stepdistill_jax.engine.model import base_model, llama, models
from stepdistill_jax.engine.optim import optimizers
from stepdistill_jax.engine.partition.partitioning import PjitPartitioner

BATCH_SIZE = 8
INPUTS, ROOM = 40, 6
TINY = llama.LlamaConfig(
    vocab_size=40, emb_dim=16, num_heads=2, num_kv_heads=1, num_layers=1, head_dim=8, mlp_dim=16
)


@pytest.fixture(scope="module")
def partitioner():
    return PjitPartitioner(num_partitions=1)


@pytest.fixture(scope="module")
def model():
    vocabulary = seqio.PassThroughVocabulary(size=40, eos_id=1)
    return models.DecoderOnlyModel(
        llama.Llama(TINY), vocabulary, optimizers.adamw(), decoding.temperature_sample
    )


@pytest.fixture(scope="module")
def params(model):
    shapes = {"decoder_input_tokens": (2, 8)}
    variables = jax.eval_shape(lambda: model.get_initial_variables(jax.random.key(0), shapes))
    rng = np.random.default_rng(1)
    return jax.tree.map(
        lambda leaf: jnp.asarray(rng.normal(0, 0.5, leaf.shape), jnp.float32), variables["params"]
    )


def state_of(params):
    return types.SimpleNamespace(params=params)  # all that inference reads of a state


def converted(num_examples, seed=0):
    """Rows of 1 to INPUTS input tokens and 1 to ROOM target tokens, by SeqIO."""
    rng = np.random.default_rng(seed)
    examples = [
        {
            "inputs": [*rng.integers(2, 40, rng.integers(0, INPUTS)), 1],
            "targets": [*rng.integers(2, 40, rng.integers(0, ROOM)), 1],
        }
        for _ in range(num_examples)
    ]
    dataset = tf.data.Dataset.from_generator(
        lambda: iter(examples),
        output_signature={name: tf.TensorSpec([None], tf.int32) for name in ("inputs", "targets")},
    )
    converter = seqio.DecoderFeatureConverter(pack=False)
    return list(converter(dataset, {"inputs": INPUTS, "targets": ROOM}).as_numpy_iterator())


def run(step, partitioner, params, rows, *, room=ROOM):
    axes = state_of(jax.tree.map(lambda _: PartitionSpec(), params))
    infer = inference.get_infer_fn(step, BATCH_SIZE, axes, partitioner, targets_length=room)
    results = infer(enumerate(rows), state_of(params))
    assert [index for index, _ in results] == list(range(len(rows)))
    return [output for _, output in results]


def test_rows_are_cut_to_few_lengths_that_hold_inputs_and_room_for_targets(partitioner):
    shapes = []

    def step(params, batch):
        shapes.append({name: rows.shape[1] for name, rows in batch.items()})
        return batch["decoder_target_tokens"].sum(axis=1) + params["bias"]

    rows = converted(100)
    sums = run(step, partitioner, {"bias": jnp.array(1)}, rows)
    assert [int(value) for value in sums] == [row["decoder_target_tokens"].sum() + 1 for row in rows]
    lengths = {length for shape in shapes for length in shape.values()}
    assert 1 < len(shapes) <= 4
    assert lengths <= {16 + ROOM, 24 + ROOM, 32 + ROOM, 40 + ROOM}
    assert all(len(set(shape.values())) == 1 for shape in shapes)


def scores_and_answers(model):
    predict = inference.prediction_step(model, ROOM, with_aux=True)

    def step(params, batch):
        tokens, aux = predict(params, batch)
        return {"tokens": tokens, "decoded": aux["scores"], "given": model.score_batch(params, batch)}

    return step


def test_cutting_rows_changes_no_answer_and_no_score(
    partitioner, model, params, quick_compilation, monkeypatch
):
    rows, outputs = converted(24), []
    for fewest_batches in (1, 1000):
        monkeypatch.setattr(inference, "_FEWEST_BATCHES_TO_CUT", fewest_batches)
        of_rows = run(scores_and_answers(model), partitioner, params, rows)
        outputs.append({name: np.stack([row[name] for row in of_rows]) for name in of_rows[0]})
    cut, whole = outputs
    assert cut["tokens"].shape == (24, ROOM)
    assert (cut["tokens"] != 0).all(axis=1).any()  # an answer that fills its room
    np.testing.assert_array_equal(cut["tokens"], whole["tokens"])
    for name in ("decoded", "given"):
        np.testing.assert_allclose(cut[name], whole[name], rtol=1e-5)


def test_rows_of_unknown_room_stay_whole(partitioner, model, params, quick_compilation, monkeypatch):
    monkeypatch.setattr(inference, "_FEWEST_BATCHES_TO_CUT", 1)
    rows = converted(9)
    step = lambda params, batch: model.predict_batch_with_aux(params, batch)  # noqa: E731
    decoded = run(step, partitioner, params, rows, room=None)
    assert {tokens.shape for tokens, _ in decoded} == {(INPUTS + ROOM,)}


def test_what_has_no_end_stops_at_its_room_not_at_the_end_of_its_row(
    partitioner, model, params, quick_compilation
):
    rows = converted(8)
    limited = run(inference.prediction_step(model, ROOM), partitioner, params, rows, room=None)
    for row, tokens in zip(rows, limited, strict=True):
        assert tokens.shape == (INPUTS + ROOM,)
        assert not tokens[ROOM:].any()
        num_inputs = np.count_nonzero(row["decoder_causal_attention"]) - 1
        assert num_inputs + ROOM <= len(tokens)


def test_a_prompt_row_is_what_the_converter_makes_of_the_inputs(model):
    names = base_model.feature_names(model)
    for row in converted(10):
        num_inputs = np.count_nonzero(row["decoder_causal_attention"]) - 1
        tokens = row["decoder_target_tokens"][:num_inputs]
        prompt = prompt_row(names, tokens, inputs_length=INPUTS, targets_length=ROOM)
        seen = row["decoder_input_tokens"] * row["decoder_causal_attention"]
        np.testing.assert_array_equal(prompt["decoder_input_tokens"], seen)
        np.testing.assert_array_equal(prompt["decoder_causal_attention"], row["decoder_causal_attention"])


def test_a_prompt_row_of_an_encoder_has_its_inputs_apart():
    row = prompt_row({"encoder_input_tokens"}, [9, 4, 1], inputs_length=4, targets_length=2)
    np.testing.assert_array_equal(row["encoder_input_tokens"], [9, 4, 1, 0])
    np.testing.assert_array_equal(row["decoder_input_tokens"], [0, 0])
