"""A tiny T5 for the engine's tests: two layers, four heads, a vocabulary of 40, random weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import seqio
from tiny_t5 import tiny_config

from stepdistill_jax.engine.decode import decoding
from stepdistill_jax.engine.model import models, network
from stepdistill_jax.engine.optim import optimizers

TINY = tiny_config(vocab_size=40, dropout_rate=0.1)


@pytest.fixture
def strict_ranks():
    """An array that would broadcast to more dimensions without a word is an error."""
    with jax.numpy_rank_promotion("raise"):
        yield


@pytest.fixture(scope="session")
def tiny_config() -> network.T5Config:
    return TINY


@pytest.fixture(scope="session")
def make_model():
    """make_model(config_changes, **model_arguments) -> EncoderDecoderModel of the tiny T5."""

    def make(config_changes=None, *, decode_fn=decoding.temperature_sample, **arguments):
        config = TINY.replace(**(config_changes or {}))
        vocabulary = seqio.PassThroughVocabulary(size=config.vocab_size, eos_id=1)
        return models.EncoderDecoderModel(
            network.Transformer(config), vocabulary, vocabulary, optimizers.adamw(), decode_fn, **arguments
        )

    return make


@pytest.fixture(scope="session")
def make_params():
    """make_params(model) -> its initial parameters, float32; compiled once for all models of one network."""
    shapes = {"encoder_input_tokens": (2, 8), "decoder_input_tokens": (2, 8)}
    initializers = {}

    def make(model):
        initialize = initializers.setdefault(
            (type(model), model.module),
            jax.jit(lambda: model.get_initial_variables(jax.random.PRNGKey(0), shapes)["params"]),
        )
        return initialize()

    return make


@pytest.fixture(scope="session")
def make_batch():
    """make_batch(rows, input_length, target_length) -> an unpacked batch; rows differ in length, targets end with 1."""

    def make(rows=4, input_length=9, target_length=7, seed=0):
        rng = np.random.default_rng(seed)
        inputs = np.zeros((rows, input_length), np.int32)
        targets = np.zeros((rows, target_length), np.int32)
        for row in range(rows):
            num_inputs = input_length - row % 4
            num_targets = target_length - row % 3
            inputs[row, :num_inputs] = rng.integers(2, 40, num_inputs)
            targets[row, :num_targets] = [*rng.integers(2, 40, num_targets - 1), 1]
        return {
            "encoder_input_tokens": jnp.asarray(inputs),
            "decoder_input_tokens": jnp.asarray(np.pad(targets, ((0, 0), (1, 0)))[:, :-1]),
            "decoder_target_tokens": jnp.asarray(targets),
            "decoder_loss_weights": jnp.asarray(targets > 0, jnp.int32),
        }

    return make
