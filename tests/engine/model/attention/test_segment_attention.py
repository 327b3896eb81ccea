"""The kernels for packed rows, interpreted, against attention over all scores."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh

from stepdistill_jax.engine.model import masks
from stepdistill_jax.engine.model.attention import kernels, plain, trial
from stepdistill_jax.engine.model.attention.segments import segment_attention
from stepdistill_jax.engine.partition.partitioning import mesh_context, standard_logical_axis_rules

MAX_DISTANCE = 128


def packed(rng, rows, length, *, shortest, longest):
    """int32 [rows, length]: contiguous segments from 1, and padding behind them."""
    ids = np.zeros((rows, length), np.int32)
    for row in ids:
        begin, number = 0, 1
        while begin + (size := int(rng.integers(shortest, longest))) <= length:
            row[begin : begin + size] = number
            begin, number = begin + size, number + 1
    return ids


def inputs(
    *, queries, keys=None, heads=2, kv_heads=2, head_dim=16, biases=False, shortest=5, longest=60, seed=0, distance=MAX_DISTANCE
):  # fmt: skip
    rng = np.random.default_rng(seed)
    query_segments = packed(rng, 2, queries, shortest=shortest, longest=longest)
    key_segments = (
        query_segments if keys is None else packed(rng, 2, keys, shortest=shortest, longest=longest)
    )

    def states(length, num_heads):
        return jnp.asarray(rng.normal(size=(2, length, num_heads, head_dim)), jnp.float32)

    arrays = [states(queries, heads), states(keys or queries, kv_heads), states(keys or queries, kv_heads)]
    if biases:
        arrays.append(jnp.asarray(rng.normal(size=(heads, 2 * distance + 1)), jnp.float32))
    sees = ((query_segments[:, :, None] == key_segments[:, None]) & (key_segments != 0)[:, None]).any(-1)
    pull = (
        states(queries, heads) * sees[:, :, None, None]
    )  # what sees nothing, as padding, counts for nothing
    return arrays, jnp.asarray(query_segments), jnp.asarray(key_segments), pull


def values_and_gradients(attend, arrays, pull):
    def pulled(*arrays):
        attended = attend(*arrays)
        return jnp.sum(attended * pull), attended

    run = jax.jit(jax.value_and_grad(pulled, tuple(range(len(arrays))), has_aux=True))
    (_, attended), gradients = run(*arrays)
    return [np.asarray(array) for array in (attended * (pull != 0), *gradients)]


def over_all_scores(query, key, value, biases=None, *, query_segments, key_segments, causal, scale):
    group = query.shape[2] // key.shape[2]
    key, value = jnp.repeat(key, group, axis=2), jnp.repeat(value, group, axis=2)
    mask = masks.SegmentMask(query_segments, key_segments, causal).array()
    if biases is not None:
        reach = biases.shape[1] // 2
        distance = np.arange(key.shape[1])[None, :] - np.arange(query.shape[1])[:, None]
        biases = biases[:, np.clip(distance, -reach, reach) + reach][None]
    return plain.dot_product_attention(query * scale, key, value, mask=mask, bias=biases)


@pytest.mark.parametrize(
    ("causal", "settings"),
    [
        pytest.param(False, {"queries": 192, "biases": True}, id="encoder"),
        pytest.param(True, {"queries": 192, "biases": True}, id="decoder"),
        pytest.param(False, {"queries": 96, "keys": 200}, id="cross-attention, lengths no multiple of a block"),
        pytest.param(True, {"queries": 150, "heads": 4, "kv_heads": 2}, id="grouped heads"),
        pytest.param(False, {"queries": 448, "biases": True, "shortest": 300, "longest": 440}, id="far keys on both sides"),
        pytest.param(True, {"queries": 448, "biases": True, "shortest": 300, "longest": 440}, id="far keys, causal"),
        pytest.param(False, {"queries": 100, "biases": True, "distance": 20}, id="biases that end within a block"),
        pytest.param(False, {"queries": 80, "heads": 6, "kv_heads": 2, "head_dim": 32}, id="grouped heads, both ways"),
        pytest.param(False, {"queries": 1, "keys": 63, "shortest": 1, "longest": 2}, id="one query"),
        pytest.param(False, {"queries": 65, "biases": True, "shortest": 1, "longest": 3}, id="segments of a token or two"),
    ],
)  # fmt: skip
def test_values_and_gradients_are_those_over_all_scores(causal, settings):
    arrays, query_segments, key_segments, pull = inputs(**settings)

    ours = values_and_gradients(
        lambda *arrays: segment_attention(
            *arrays[:3], query_segments, key_segments, *arrays[3:], scale=0.3, causal=causal, interpret=True
        ),
        arrays,
        pull,
    )
    right = values_and_gradients(
        lambda *arrays: over_all_scores(
            *arrays, query_segments=query_segments, key_segments=key_segments, causal=causal, scale=0.3
        ),
        arrays,
        pull,
    )
    for name, array, expected in zip(
        ("values", "query", "key", "value", "biases"), ours, right, strict=False
    ):
        np.testing.assert_allclose(array, expected, atol=1e-6 + 2e-5 * np.max(np.abs(expected)), err_msg=name)
    assert len(ours) == len(right) == 1 + len(arrays)
    assert np.max(np.abs(ours[0])) > 0.1


def test_segments_need_not_be_contiguous():
    arrays, *_, pull = inputs(queries=192, biases=True)
    ids = jnp.asarray(np.random.default_rng(1).integers(0, 4, (2, 192)), jnp.int32)
    pull = pull + 1.0 * (ids != 0)[:, :, None, None]

    ours = values_and_gradients(
        lambda query, key, value, biases: segment_attention(query, key, value, ids, ids, biases, interpret=True),
        arrays, pull * (ids != 0)[:, :, None, None],
    )  # fmt: skip
    right = values_and_gradients(
        lambda *arrays: over_all_scores(*arrays, query_segments=ids, key_segments=ids, causal=False, scale=1.0),
        arrays, pull * (ids != 0)[:, :, None, None],
    )  # fmt: skip
    for array, expected in zip(ours, right, strict=True):
        np.testing.assert_allclose(array, expected, atol=2e-5 * np.max(np.abs(expected)))


def test_padding_gets_zeros_and_is_nobody_s_key():
    arrays, query_segments, key_segments, _ = inputs(queries=128)
    padding = np.asarray(query_segments == 0)
    assert padding.any()
    attend = jax.jit(
        lambda query, key, value: segment_attention(
            query, key, value, query_segments, key_segments, interpret=True
        )
    )

    attended = np.asarray(attend(*arrays))
    changed = [jnp.where(padding[:, :, None, None], 1e4, array) for array in arrays[1:]]
    again = np.asarray(attend(arrays[0], *changed))

    assert not attended[padding].any()
    np.testing.assert_array_equal(again, attended)


def test_scores_far_below_zero_give_no_nan():
    arrays, query_segments, key_segments, pull = inputs(queries=64, biases=True)
    arrays[3] = jnp.full_like(arrays[3], -100.0)

    for array in values_and_gradients(
        lambda query, key, value, biases: segment_attention(
            query, key, value, query_segments, key_segments, biases, interpret=True
        ),
        arrays,
        pull,
    ):
        assert np.isfinite(array).all()


def test_blocks_of_other_examples_are_not_visited():
    # Four segments of two blocks each: of 64 blocks of scores a quarter belongs to somebody.
    ids = jnp.asarray(np.repeat([1, 2, 3, 4], 2 * kernels.BLOCK)[None], jnp.int32)

    visible = kernels.visible_blocks(ids, ids, causal=False)
    first, end = kernels.bounds(visible)

    assert int(visible.sum()) == 16
    np.testing.assert_array_equal(first[0], [0, 0, 2, 2, 4, 4, 6, 6])
    np.testing.assert_array_equal(end[0], [2, 2, 4, 4, 6, 6, 8, 8])
    causal = kernels.visible_blocks(ids, ids, causal=True)
    np.testing.assert_array_equal(kernels.bounds(causal)[1][0], np.arange(1, 9))


def test_bounds_leave_nothing_to_visit_where_all_is_padding():
    nothing = kernels.visible_blocks(
        jnp.zeros((1, 128), jnp.int32), jnp.zeros((1, 64), jnp.int32), causal=False
    )
    first, end = kernels.bounds(nothing)
    assert (np.asarray(first) >= np.asarray(end)).all()


@pytest.mark.parametrize(
    "mesh_shape", [(2, 1), (1, 2), (2, 2), (4, 1), (1, 4)]
)  # two rows and heads do not go into four
def test_over_a_mesh_it_is_the_same(mesh_shape):
    arrays, query_segments, key_segments, pull = inputs(queries=96, biases=True)
    mesh = Mesh(np.array(jax.devices()[: np.prod(mesh_shape)]).reshape(mesh_shape), ("data", "model"))

    def attend(query, key, value, biases):
        return segment_attention(query, key, value, query_segments, key_segments, biases, interpret=True)

    here = values_and_gradients(attend, arrays, pull)
    with mesh_context(mesh, standard_logical_axis_rules()):
        there = values_and_gradients(attend, arrays, pull)

    for array, expected in zip(there, here, strict=True):
        np.testing.assert_allclose(array, expected, atol=1e-5 * np.max(np.abs(expected)))


def test_heads_that_triton_does_not_multiply_are_one_line():
    arrays, query_segments, key_segments, _ = inputs(queries=64, head_dim=24)
    with pytest.raises(ValueError, match="attention='pallas' with heads of 24"):
        segment_attention(*arrays, query_segments, key_segments, interpret=True)


def test_a_trial_passes_and_finds_a_kernel_that_is_wrong(monkeypatch):
    assert trial.failure("pallas", jnp.bfloat16, 32, interpret=True) is None
    assert trial.failure("xla", jnp.bfloat16, 32) is None

    right = kernels.table_gradient
    monkeypatch.setattr(kernels, "table_gradient", lambda *arguments: 1.1 * right(*arguments))
    assert "bias gradients differ" in trial.failure("pallas", jnp.bfloat16, 32, interpret=True)
    for name in ("pallas", "cudnn"):
        assert "Error" in trial.failure(name, jnp.bfloat16, 32)  # neither is there on a CPU
