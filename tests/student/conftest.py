"""A tiny student, and a packed batch of both tasks."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import seqio
from packed_batches import VOCAB_SIZE, pack
from tiny_t5 import tiny_config

from stepdistill_jax.engine.decode import decoding
from stepdistill_jax.engine.model import network
from stepdistill_jax.engine.optim import adafactor
from stepdistill_jax.engine.optim.train_state import FlaxOptimTrainState
from stepdistill_jax.engine.step.initialize import abstract_train_state
from stepdistill_jax.student.model import StepByStepModel

TINY = tiny_config(
    vocab_size=VOCAB_SIZE,
    num_encoder_layers=1,
    num_decoder_layers=1,
    num_heads=8,
    head_dim=2,
    dropout_rate=0.0,
)


@pytest.fixture(scope="session")
def make_student() -> Callable[..., StepByStepModel]:
    """make_student(**arguments of StepByStepModel): one layer, no dropout."""

    def make(**arguments) -> StepByStepModel:
        vocabulary = seqio.PassThroughVocabulary(size=VOCAB_SIZE, eos_id=1)
        return StepByStepModel(
            network.Transformer(TINY),
            vocabulary,
            vocabulary,
            adafactor.Adafactor(),
            decoding.temperature_sample,
            **arguments,
        )

    return make


@pytest.fixture(scope="session")
def new_state(make_student) -> Callable[[], FlaxOptimTrainState]:
    """Makes the state of a tiny student before its first step, always the same: a training step takes its memory."""
    shapes = {"encoder_input_tokens": (2, 8), "decoder_input_tokens": (2, 8)}
    abstract = abstract_train_state(make_student(), shapes, {})

    def make() -> FlaxOptimTrainState:
        rng = np.random.default_rng(0)
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), abstract)
        return zeros.replace(
            params=jax.tree.map(
                lambda leaf: jnp.asarray(rng.normal(0, 0.3, leaf.shape), jnp.float32), abstract.params
            )
        )

    return make


@pytest.fixture(scope="session")
def params(new_state):
    """Random parameters of every tiny student."""
    return new_state().params


@pytest.fixture(scope="session")
def packed_batch() -> dict[str, np.ndarray]:
    """16 rows, each with up to a label (task 1), a rationale (task 2) and another label; rows differ in all lengths."""
    return pack(16, tasks=(1, 2, 1), seed=0)
