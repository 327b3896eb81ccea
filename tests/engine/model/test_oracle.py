"""The engine against numbers that T5X itself computed (shared/oracle/v1_1_tiny.npz and its README)."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import seqio
from flax import traverse_util

from stepdistill_jax.engine.decode import decoding
from stepdistill_jax.engine.model import models, network
from stepdistill_jax.engine.optim import adafactor, optimizers


class Oracle:
    """The golden file: `arrays('plain/batch')` gives {name: array}, `params('params')` a nested tree."""

    def __init__(self, path):
        with np.load(path) as golden:
            self.values = dict(golden)
        self.config = json.loads(str(self.values["config"]))

    def __getitem__(self, key):
        return self.values[key]

    def arrays(self, prefix):
        start = f"{prefix}/"
        return {
            key.removeprefix(start): jnp.asarray(value)
            for key, value in self.values.items()
            if key.startswith(start)
        }

    def params(self, prefix):
        return traverse_util.unflatten_dict(self.arrays(prefix), sep="/")

    def model(self, attention="auto", **arguments):
        names = ("vocab_size", "emb_dim", "num_heads", "num_encoder_layers", "num_decoder_layers", "head_dim")
        names = (*names, "mlp_dim", "mlp_activations", "logits_via_embedding", "dtype")
        config = network.T5Config(**{name: self.config[name] for name in names}, attention=attention)
        vocabulary = seqio.PassThroughVocabulary(size=config.vocab_size, eos_id=1)
        arguments = {"optimizer_def": optimizers.adamw(), "z_loss": self.config["z_loss"], **arguments}
        return models.EncoderDecoderModel(network.Transformer(config), vocabulary, vocabulary, **arguments)


@pytest.fixture(scope="module")
def oracle(shared):
    return Oracle(shared / "oracle" / "v1_1_tiny.npz")


@pytest.fixture(
    scope="module",
    params=[(kind, attention) for kind in ("plain", "packed") for attention in ("auto", "xla", "pallas")],
    ids="-".join,
)
def loss_and_gradient(request, oracle):
    kind, attention = request.param
    model = oracle.model(attention)
    gradient = jax.jit(jax.value_and_grad(lambda *args: model.loss_fn(*args, None), has_aux=True))
    (loss, metrics), grads = gradient(oracle.params("params"), oracle.arrays(f"{kind}/batch"))
    return kind, loss, metrics, traverse_util.flatten_dict(grads, sep="/")


def test_initial_parameters_are_those_of_t5x(oracle):
    shapes = {"encoder_input_tokens": (4, 40), "decoder_input_tokens": (4, 24)}
    variables = jax.jit(lambda: oracle.model().get_initial_variables(jax.random.PRNGKey(0), shapes))()
    initial = traverse_util.flatten_dict(variables["params"], sep="/")
    expected = oracle.arrays("params")
    assert initial.keys() == expected.keys()
    for path, param in expected.items():
        np.testing.assert_allclose(initial[path], param, rtol=1e-6, atol=1e-7, err_msg=path)


@pytest.mark.parametrize("kind", ["plain", "packed"])
def test_logits_agree(oracle, kind):
    logits = jax.jit(oracle.model()._compute_logits)(oracle.params("params"), oracle.arrays(f"{kind}/batch"))
    np.testing.assert_allclose(logits, oracle[f"{kind}/logits"], rtol=1e-4, atol=1e-5)


def test_losses_and_gradient_norms_agree(oracle, loss_and_gradient):
    kind, loss, metrics, grads = loss_and_gradient
    np.testing.assert_allclose(loss, oracle[f"{kind}/loss_sum"], rtol=1e-5)
    np.testing.assert_allclose(metrics["z_loss"].total, oracle[f"{kind}/z_loss_sum"], rtol=1e-5)
    norms = {path: float(jnp.linalg.norm(grad)) for path, grad in grads.items()}
    expected = oracle.arrays(f"{kind}/grad_norms")
    assert norms.keys() == expected.keys()
    for path, norm in expected.items():
        np.testing.assert_allclose(norms[path], norm, rtol=1e-4, err_msg=path)
    np.testing.assert_allclose(
        np.sqrt(sum(norm**2 for norm in norms.values())), oracle[f"{kind}/grad_norm"], rtol=1e-4
    )


def _train(oracle, optimizer_def, learning_rate):
    """Six steps from the initial parameters, batches plain, packed, plain, …: (losses, parameters)."""
    model = oracle.model(loss_normalizing_factor="NUM_REAL_TARGET_TOKENS")
    shapes = {"encoder_input_tokens": (4, 40), "decoder_input_tokens": (4, 24)}
    variables = jax.eval_shape(lambda: model.get_initial_variables(jax.random.PRNGKey(0), shapes))
    axes = traverse_util.flatten_dict(variables["params_axes"])
    optimizer_def.set_param_axes(
        traverse_util.unflatten_dict(
            {(*path[:-1], path[-1].removesuffix("_axes")): leaf.names for path, leaf in axes.items()}
        )
    )
    hyper_params = optimizer_def.update_hyper_params(learning_rate=learning_rate)

    @jax.jit
    def step(params, state, batch):
        (loss, _), grads = jax.value_and_grad(model.loss_fn, has_aux=True)(params, batch, None)
        return loss, *optimizer_def.apply_gradient(hyper_params, params, state, grads)

    params = oracle.params("params")
    state = optimizer_def.init_state(params)
    losses = []
    for kind in ("plain", "packed") * 3:
        loss, params, state = step(params, state, oracle.arrays(f"{kind}/batch"))
        losses.append(float(loss))
    assert int(state.step) == 6
    return losses, traverse_util.flatten_dict(params, sep="/")


def test_six_adafactor_steps_agree(oracle):
    settings = oracle.config["adafactor"]
    optimizer_def = adafactor.Adafactor(
        decay_rate=settings["decay_rate"],
        step_offset=settings["step_offset"],
        logical_factor_rules=adafactor.standard_logical_factor_rules(),
    )
    losses, _ = _train(oracle, optimizer_def, settings["learning_rate"])
    np.testing.assert_allclose(losses, oracle["adafactor/losses"], rtol=1e-4)


@pytest.mark.parametrize("whose_learning_rate", ["optimizer", "trainer"])
def test_six_adamw_steps_and_the_trained_parameters_agree(oracle, whose_learning_rate):
    settings = oracle.config["adamw"]
    own = {"learning_rate": settings["learning_rate"]} if whose_learning_rate == "optimizer" else {}
    optimizer_def = optimizers.adamw(
        weight_decay=settings["weight_decay"],
        b1=settings["b1"],
        b2=settings["b2"],
        eps=settings["eps"],
        **own,
    )
    losses, params = _train(oracle, optimizer_def, None if own else settings["learning_rate"])
    np.testing.assert_allclose(losses, oracle["adamw/losses"], rtol=1e-4)
    for path, param in oracle.arrays("trained_params").items():
        # Adam divides by the root of near-zero moments, so a rounding error of a gradient is one of the step's size
        # (5e-4); we measured 5e-6 at most.
        np.testing.assert_allclose(params[path], param, rtol=1e-4, atol=2e-5, err_msg=path)


@pytest.mark.parametrize(
    ("name", "decode_fn", "num_decodes", "decoder_params"),
    [
        ("greedy", decoding.temperature_sample, 1, {"temperature": 0.0}),
        ("beam4", decoding.beam_search, 4, {}),
        ("beam4_alpha0", decoding.beam_search, 4, {"alpha": 0.0}),
    ],
)
def test_decoded_tokens_are_identical(oracle, name, decode_fn, num_decodes, decoder_params):
    model = oracle.model(decode_fn=decode_fn)
    predict = functools.partial(
        model.predict_batch_with_aux,
        decoder_params=decoder_params,
        return_all_decodes=True,
        num_decodes=num_decodes,
    )
    tokens, aux = jax.jit(predict)(oracle.params("trained_params"), oracle.arrays("plain/batch"))
    np.testing.assert_array_equal(tokens, oracle[f"{name}/tokens"])
    np.testing.assert_allclose(aux["scores"], oracle[f"{name}/scores"], rtol=1e-5)


def test_scores_agree(oracle):
    scores = jax.jit(oracle.model().score_batch)(oracle.params("params"), oracle.arrays("plain/batch"))
    np.testing.assert_allclose(scores, oracle["scores"], rtol=1e-5)
