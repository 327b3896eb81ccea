"""Every implementation of attention gives a network the same losses and gradients, with dropout, packed and not."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_llama import random_prefix_batch, tiny_llama

from stepdistill_jax.engine.model import llama, masks
from stepdistill_jax.engine.model.attention import choice, fused, plain

pytestmark = pytest.mark.usefixtures("quick_compilation")
HALF = {"dtype": jnp.bfloat16, "head_dim": 64}


@pytest.fixture(scope="module")
def packed_batch():
    """Two rows of three and two examples, and padding behind them."""
    rng = np.random.default_rng(0)
    segments = np.array([[1] * 5 + [2] * 9 + [3] * 4 + [0] * 2, [1] * 12 + [2] * 7 + [0]], np.int32)
    of_targets = np.array([[1] * 3 + [2] * 2 + [3] * 4 + [0], [1] * 4 + [2] * 6], np.int32)
    inputs = rng.integers(2, 40, segments.shape) * (segments > 0)
    targets = rng.integers(2, 40, of_targets.shape) * (of_targets > 0)
    begins = np.diff(of_targets, axis=1, prepend=0) != 0
    return {
        "encoder_input_tokens": jnp.asarray(inputs),
        "decoder_input_tokens": jnp.asarray(np.where(begins, 0, np.pad(targets, ((0, 0), (1, 0)))[:, :-1])),
        "decoder_target_tokens": jnp.asarray(targets),
        "decoder_loss_weights": jnp.asarray(of_targets > 0, jnp.int32),
        "encoder_segment_ids": jnp.asarray(segments),
        "decoder_segment_ids": jnp.asarray(of_targets),
    }


@pytest.mark.parametrize("implementation", ["xla", "pallas"])
@pytest.mark.parametrize(
    ("is_packed", "changes"),
    [
        pytest.param(True, {"scan_layers": False}, id="packed"),
        pytest.param(False, {"scan_layers": True}, id="padded, layers scanned"),
        pytest.param(True, {"relpos_bias_in_every_layer": True, "scan_layers": True}, id="packed, umT5"),
    ],
)
def test_losses_and_gradients_with_dropout_are_the_plain_ones(
    make_model, make_params, make_batch, packed_batch, implementation, is_packed, changes
):
    changes = {"head_dim": 16, "dropout_rate": 0.3, **changes}
    batch = packed_batch if is_packed else make_batch()
    check_against_plain(make_model, make_params, implementation, changes, batch)


def test_rows_of_many_blocks_and_distances_beyond_the_table_are_the_plain_ones(make_model, make_params):
    rng = np.random.default_rng(1)
    segments = np.repeat([[1, 2, 3, 0]], [200, 90, 20, 10], axis=1)
    of_targets = np.repeat([[1, 2, 3, 0]], [140, 40, 10, 2], axis=1)
    targets = rng.integers(2, 40, of_targets.shape) * (of_targets > 0)
    batch = {
        "encoder_input_tokens": jnp.asarray(rng.integers(2, 40, segments.shape) * (segments > 0)),
        "decoder_input_tokens": jnp.asarray(np.pad(targets, ((0, 0), (1, 0)))[:, :-1]),
        "decoder_target_tokens": jnp.asarray(targets),
        "decoder_loss_weights": jnp.asarray(of_targets > 0, jnp.int32),
        "encoder_segment_ids": jnp.asarray(segments),
        "decoder_segment_ids": jnp.asarray(of_targets),
    }
    changes = {"head_dim": 16, "dropout_rate": 0.1, "num_encoder_layers": 1, "num_decoder_layers": 1}
    check_against_plain(make_model, make_params, "pallas", changes, batch)


def check_against_plain(make_model, make_params, implementation, changes, batch):
    losses, gradients = [], []
    for name in ("plain", implementation):
        model = make_model({"attention": name, **changes})
        run = jax.jit(jax.value_and_grad(model.loss_fn, has_aux=True))
        (loss, _), grads = run(make_params(model), batch, jax.random.key(5, impl="unsafe_rbg"))
        losses.append(float(loss))
        gradients.append(grads)
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-6)
    for path, expected in jax.tree.leaves_with_path(gradients[0]):
        found = next(leaf for at, leaf in jax.tree.leaves_with_path(gradients[1]) if at == path)
        limit = 1e-6 + 1e-4 * float(jnp.max(jnp.abs(expected)))
        np.testing.assert_allclose(found, expected, atol=limit, err_msg=jax.tree_util.keystr(path))


@pytest.mark.skipif(jax.__version_info__ < (0, 11), reason="JAX 0.10 computes kept results of a kernel again")
@pytest.mark.parametrize(("remat_policy", "times"), [("minimal", 1), ("full", 2)])
def test_a_kernel_runs_forward_once_where_a_layer_is_computed_again(
    make_model, make_params, packed_batch, remat_policy, times
):
    model = make_model(
        {"attention": "pallas", "head_dim": 16, "scan_layers": True, "remat_policy": remat_policy}
    )
    gradient = jax.grad(lambda params: model.loss_fn(params, packed_batch, None)[0])

    text = str(jax.make_jaxpr(gradient)(make_params(model)))

    # One in the encoder's loop, two in the decoder's.
    assert len(re.findall(r"\bname=segment_attention\b", text)) == 3 * times
    assert len(re.findall(r"\bname=segment_attention_query_gradient\b", text)) == 3


def test_dropped_values_are_dropped_weights():
    query, key, value = (jax.random.normal(jax.random.key(n), (2, 5, 3, 8)) for n in range(3))
    rng, rate = jax.random.key(7), 0.5

    attended = plain.dot_product_attention(query, key, value, dropout_rng=rng, dropout_rate=rate)

    # T5X's draw: a mask of the weights' shape, the same for all queries.
    keep = np.asarray(jax.random.bernoulli(rng, 1.0 - rate, (2, 3, 1, 5)), np.float32)
    weights = jax.nn.softmax(jnp.einsum("bqhd,bkhd->bhqk", query, key), axis=-1) * (keep / (1.0 - rate))
    np.testing.assert_allclose(attended, jnp.einsum("bhqk,bkhd->bqhd", weights, value), atol=1e-5)
    assert 0 < keep.mean() < 1


@pytest.mark.parametrize("is_packed", [True, False])
def test_a_language_model_gets_the_same_from_the_kernels(is_packed):
    batch = random_prefix_batch()
    tokens = np.asarray(batch["decoder_target_tokens"])
    segments = np.where(tokens > 0, 1 + (np.arange(tokens.shape[1]) >= 5), 0)
    given = {"decoder_segment_ids": jnp.asarray(segments)} if is_packed else {}
    config = tiny_llama(head_dim=16)
    params = llama.Llama(config).init(
        jax.random.key(0), batch["decoder_input_tokens"], batch["decoder_target_tokens"], enable_dropout=False
    )["params"]

    def squared(params, attention):
        logits = llama.Llama(config.replace(attention=attention)).apply(
            {"params": params}, batch["decoder_input_tokens"], batch["decoder_target_tokens"],
            enable_dropout=False, **given,
        )  # fmt: skip
        return jnp.sum(jnp.where(tokens[..., None] > 0, logits, 0.0) ** 2)

    (loss, ours), (expected_loss, expected) = (
        jax.jit(jax.value_and_grad(lambda params, name=name: squared(params, name)))(params)
        for name in ("pallas", "plain")
    )
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-5)
    for found, right in zip(jax.tree.leaves(ours), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(found, right, atol=1e-6 + 1e-4 * float(jnp.max(jnp.abs(right))))


def test_a_mask_that_no_segments_tell_is_left_to_the_plain_one():
    batch = random_prefix_batch()
    config = tiny_llama(head_dim=16)
    arguments = (batch["decoder_input_tokens"], batch["decoder_target_tokens"])
    params = llama.Llama(config).init(jax.random.key(0), *arguments, enable_dropout=False)
    prefix = {"decoder_causal_attention": batch["decoder_causal_attention"], "enable_dropout": False}

    plain_one, ours = (
        llama.Llama(config.replace(attention=name)).apply(params, *arguments, **prefix)
        for name in ("plain", "pallas")
    )

    np.testing.assert_array_equal(ours, plain_one)


@pytest.mark.parametrize("mask_kind", ["none", "segments"])
def test_lengths_rounded_up_for_cudnn_change_nothing(mask_kind):
    query, key, value = (jax.random.normal(jax.random.key(n), (2, 70, 2, 8)) for n in range(3))
    bias = jax.random.normal(jax.random.key(3), (1, 2, 70, 70))
    ids = jnp.asarray(np.repeat([[1, 2, 3, 0]], [30, 20, 15, 5], axis=1))
    ids = jnp.concatenate([ids, ids])
    mask = None if mask_kind == "none" else masks.SegmentMask(ids, ids).array()

    padded = fused._padded(query, key, value, mask, bias)
    wanted = jax.nn.dot_product_attention(query, key, value, bias=bias, mask=mask, implementation="xla")
    *rows, padded_mask, padded_bias = padded
    found = jax.nn.dot_product_attention(*rows, bias=padded_bias, mask=padded_mask, implementation="xla")

    assert found.shape[1] == 128
    counts = slice(0, 65)  # what lies behind is padding
    np.testing.assert_allclose(found[:, counts], wanted[:, counts], atol=1e-5)


@pytest.mark.parametrize(
    ("platform", "settings", "chosen"),
    [
        ("cpu", HALF, "plain"),
        ("tpu", HALF, "plain"),
        ("gpu", HALF, "pallas"),
        ("gpu", {**HALF, "dtype": "bfloat16"}, "pallas"),
        ("gpu", {**HALF, "head_dim": 24}, "cudnn"),
        ("gpu", {**HALF, "head_dim": 256}, "plain"),
        ("gpu", {**HALF, "by_segments": False}, "cudnn"),
        ("gpu", {**HALF, "head_dim": 20}, "plain"),
        ("gpu", {**HALF, "dtype": jnp.float32}, "plain"),
        ("gpu", {**HALF, "float32_logits": True}, "plain"),
    ],
)
def test_what_auto_takes(platform, settings, chosen):
    implementation, reason = choice.explain(**settings, platform=platform)
    assert implementation == chosen
    assert reason


def test_a_line_says_what_computes_attention_and_why(tiny_config):
    half = tiny_config.replace(**HALF)
    assert choice.describe(half, "gpu") == "attention: pallas (skips what belongs to other examples of a row)"
    assert choice.describe(half, "cpu") == "attention: plain (no GPU)"
    assert "attention: plain (float32: fused" in choice.describe(tiny_config.replace(head_dim=64), "gpu")
    odd = choice.describe(tiny_config.replace(**{**HALF, "head_dim": 20}), "cuda")
    assert odd.startswith("attention: plain ('pallas' takes heads of 16, 32")
    assert "'cudnn' takes" in odd
    assert choice.describe(half.replace(attention="cudnn"), "gpu") == "attention: cudnn, as set"
    assert choice.describe(object(), "gpu") is None
    prefix_lm = choice.describe(half, "gpu", by_segments=False)
    assert prefix_lm == "attention: cudnn ('pallas' takes masks that are known by segments)"
    as_set = choice.describe(half.replace(attention="pallas"), "gpu", by_segments=False)
    assert as_set.startswith("attention: plain ('pallas', as set, takes masks")


@pytest.mark.parametrize(
    ("failures", "chosen"),
    [
        ({}, "pallas"),
        ({"pallas": "values differ by 7.0%"}, "cudnn"),
        ({"pallas": "values differ by 8.0%", "cudnn": "RuntimeError: cuDNN is not detected."}, "plain"),
    ],
)
def test_auto_takes_what_passes_its_trial(monkeypatch, capsys, failures, chosen):
    monkeypatch.setattr(choice.jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(choice, "_trial", lambda name, dtype, head_dim: failures.get(name))
    ids = jnp.ones((1, 8), jnp.int32)

    assert choice.choose("auto", masks.SegmentMask(ids, ids), **HALF) == chosen
    said = capsys.readouterr().err
    assert all(f"attention='{name}' is not taken: {failure}" in said for name, failure in failures.items())


def test_several_processes_try_nothing_and_take_what_needs_no_trial(monkeypatch):
    monkeypatch.setattr(choice.jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(choice.jax, "process_count", lambda: 2)
    ids = jnp.ones((1, 8), jnp.int32)
    assert choice.choose("auto", masks.SegmentMask(ids, ids), **HALF) == "cudnn"


def test_auto_takes_cudnn_for_a_mask_that_no_segments_tell(monkeypatch):
    monkeypatch.setattr(choice, "target_platform", lambda: "gpu")
    ids = jnp.ones((1, 8), jnp.int32)
    mask = masks.SegmentMask(ids, ids)

    assert choice.choose("auto", mask, **HALF) == "pallas"
    assert choice.choose("auto", mask.array(), **HALF) == "cudnn"
    assert choice.choose("auto", mask.array(), dtype=jnp.bfloat16, head_dim=256) == "plain"


def test_a_trial_runs_while_something_else_is_traced(monkeypatch):
    from stepdistill_jax.engine.model.attention import trial

    right = trial.failure
    monkeypatch.setattr(trial, "failure", lambda *of: right(*of, interpret=True))
    choice._trial.cache_clear()
    found = []

    jax.eval_shape(lambda x: found.append(choice._trial("pallas", jnp.bfloat16, 16)) or x, jnp.zeros(3))
    choice._trial.cache_clear()

    assert found == [None]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"attention": "flash"}, "attention='flash'; use one of auto, plain, xla, cudnn, pallas"),
        ({"attention": "xla", "float32_attention_logits": True}, "float32_attention_logits=True"),
        ({"attention": "cudnn", "head_dim": 64}, "attention='cudnn' computes in bfloat16 or float16, and dtype is float32"),
        ({"attention": "cudnn", "dtype": "bfloat16", "head_dim": 20}, "heads of a multiple of 8"),
        ({"attention": "pallas", "head_dim": 24}, "attention='pallas' takes heads of 16, 32, 64, 128 or 256"),
    ],
)  # fmt: skip
def test_what_an_implementation_cannot_do_is_one_line(tiny_config, changes, named):
    with pytest.raises(ValueError, match=named):
        tiny_config.replace(**changes)


def test_kernels_for_gpus_are_refused_on_tpus(monkeypatch):
    monkeypatch.setattr(choice, "target_platform", lambda: "tpu")
    with pytest.raises(ValueError, match="attention='pallas' is compiled for GPUs, and these are TPUs"):
        choice.choose("pallas", **HALF)


def test_packed_inputs_need_packed_targets(make_model, make_params, packed_batch):
    model = make_model()
    del (batch := dict(packed_batch))["decoder_segment_ids"]
    with pytest.raises(ValueError, match="without decoder_segment_ids"):
        model.loss_fn(make_params(model), batch, None)
