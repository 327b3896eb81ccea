"""The engine against what T5X makes of a tiny T5 v1.0, tied and relu (tests/goldens/make_t5_1_0.py)."""

import functools
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import seqio
from flax import traverse_util

from stepdistill_jax.engine.decode import decoding
from stepdistill_jax.engine.model import models, network
from stepdistill_jax.engine.optim import adafactor
from stepdistill_jax.engine.optim.train_state import logical_axes_of

GOLDENS = Path(__file__).resolve().parents[2] / "goldens" / "t5_1_0_tiny.npz"


@pytest.fixture(scope="module")
def golden():
    """golden[key], and golden['params/'] for a dict of everything under a prefix."""
    with np.load(GOLDENS) as stored:
        values = dict(stored)

    class Golden(dict):
        def __missing__(self, prefix):
            return {
                key.removeprefix(prefix): jnp.asarray(value)
                for key, value in values.items()
                if key.startswith(prefix)
            }

    return Golden(values)


@pytest.fixture(scope="module")
def config(golden):
    return json.loads(str(golden["config"]))


@pytest.fixture(scope="module")
def params(golden):
    return traverse_util.unflatten_dict(golden["params/"], sep="/")


@pytest.fixture(scope="module")
def make_model(config):
    def make(decode_fn=decoding.temperature_sample, **arguments):
        names = set(network.T5Config.__dataclass_fields__) & set(config)
        vocabulary = seqio.PassThroughVocabulary(size=config["vocab_size"], eos_id=1)
        return models.EncoderDecoderModel(
            network.Transformer(network.T5Config(**{name: config[name] for name in names})),
            vocabulary,
            vocabulary,
            adafactor.Adafactor(
                decay_rate=0.8,
                step_offset=0,
                logical_factor_rules=adafactor.standard_logical_factor_rules(),
            ),
            decode_fn,
            z_loss=config["z_loss"],
            **arguments,
        )

    return make


def test_logits_and_scores_agree(golden, params, make_model):
    model = make_model()
    logits, scores = jax.jit(
        lambda p: (model._compute_logits(p, golden["batch/"]), model.score_batch(p, golden["batch/"]))
    )(params)
    np.testing.assert_allclose(logits, golden["logits"], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(scores, golden["scores"], rtol=1e-5)


@pytest.mark.parametrize("loss_block_tokens", [8, None], ids=["in_blocks", "of_all_logits"])
def test_loss_and_gradient_norms_agree(golden, params, make_model, loss_block_tokens):
    model = make_model(loss_block_tokens=loss_block_tokens)
    gradient = jax.jit(jax.value_and_grad(model.loss_fn, has_aux=True))
    (loss, metrics), grads = gradient(params, golden["batch/"], None)
    np.testing.assert_allclose(loss, golden["loss_sum"], rtol=1e-5)
    np.testing.assert_allclose(metrics["z_loss"].total, golden["z_loss_sum"], rtol=1e-5)
    norms = {path: jnp.linalg.norm(g) for path, g in traverse_util.flatten_dict(grads, sep="/").items()}
    expected = golden["grad_norms/"]
    assert norms.keys() == expected.keys()
    for path, norm in expected.items():
        np.testing.assert_allclose(norms[path], norm, rtol=1e-4, err_msg=path)


def test_adafactor_steps_agree(golden, params, config, make_model):
    model = make_model(loss_normalizing_factor="NUM_REAL_TARGET_TOKENS")
    shapes = {"encoder_input_tokens": (4, 14), "decoder_input_tokens": (4, 10)}
    variables = jax.eval_shape(lambda: model.get_initial_variables(jax.random.PRNGKey(0), shapes))
    optimizer = model.optimizer_def
    optimizer.set_param_axes(logical_axes_of(variables["params_axes"]))
    hyper_params = optimizer.update_hyper_params(learning_rate=config["learning_rate"])

    @jax.jit
    def step(params, state):
        (loss, _), grads = jax.value_and_grad(model.loss_fn, has_aux=True)(params, golden["batch/"], None)
        return loss, *optimizer.apply_gradient(hyper_params, params, state, grads)

    state, losses = optimizer.init_state(params), []
    for _ in golden["adafactor/losses"]:
        loss, params, state = step(params, state)
        losses.append(float(loss))
    np.testing.assert_allclose(losses, golden["adafactor/losses"], rtol=1e-5)
    for path, param in traverse_util.flatten_dict(params, sep="/").items():
        # Unfactored, Adafactor first takes a step of its whole size whatever the gradient's: where that is near zero, a
        # rounding error turns it round, which moves the norm of 32 numbers near 1 by 6e-5. We saw one such.
        np.testing.assert_allclose(
            jnp.linalg.norm(param), golden[f"adafactor/param_norms/{path}"], rtol=2e-4, err_msg=path
        )


@pytest.mark.parametrize(
    ("name", "decode_fn", "num_decodes", "decoder_params"),
    [
        ("greedy", decoding.temperature_sample, 1, {"temperature": 0.0}),
        ("beam4", decoding.beam_search, 4, {"alpha": 0.6}),
    ],
)
def test_decoded_tokens_are_identical(golden, make_model, name, decode_fn, num_decodes, decoder_params):
    scaled = traverse_util.unflatten_dict(golden["params/"], sep="/")
    scaled["token_embedder"] = {"embedding": scaled["token_embedder"]["embedding"] * golden["decode_scale"]}
    predict = functools.partial(
        make_model(decode_fn).predict_batch_with_aux,
        decoder_params=decoder_params,
        return_all_decodes=True,
        num_decodes=num_decodes,
    )
    tokens, aux = jax.jit(predict)(scaled, golden["batch/"])
    np.testing.assert_array_equal(tokens, golden[f"{name}/tokens"])
    np.testing.assert_allclose(aux["scores"], golden[f"{name}/scores"], rtol=1e-4, atol=1e-5)
