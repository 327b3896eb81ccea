"""T5X itself restores our checkpoints, and computes the same logits.

Needs T5X's source tree, which no registry has, and the packages that it imports:

    T5X_SOURCE=SRC/t5x:SRC/airio:SRC/jestimator T5X_PYTHON=VENV/bin/python pytest tests/engine/checkpoint/test_t5x_restores_ours.py
"""

import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import seqio
from tiny_t5 import SIZES

from stepdistill_jax.engine.checkpoint.checkpoint_writer import write_checkpoint
from stepdistill_jax.engine.checkpoint.saved_checkpoint import open_checkpoint
from stepdistill_jax.engine.model import models, network
from stepdistill_jax.engine.optim import adafactor
from stepdistill_jax.engine.partition.partitioning import PjitPartitioner
from stepdistill_jax.engine.step.initialize import TrainStateInitializer
from stepdistill_jax.engine.t5x_names.checkpoints import RunCheckpoints, SaveCheckpointConfig, StreamPosition

PYTHON = os.environ.get("T5X_PYTHON", sys.executable)
CONFIG = {**SIZES, "vocab_size": 128, "num_encoder_layers": 1}
# What T5X does with a checkpoint: restores state and step, and computes logits.
T5X = """
import json, sys
import jax, numpy as np, seqio
from t5x import adafactor, checkpoints, models, partitioning, utils
from t5x.examples.t5 import network

job = json.loads(sys.argv[1])
vocabulary = seqio.PassThroughVocabulary(size=job["config"]["vocab_size"], eos_id=1)
optimizer = adafactor.Adafactor(decay_rate=0.8, logical_factor_rules=adafactor.standard_logical_factor_rules())
model = models.EncoderDecoderModel(network.Transformer(network.T5Config(**job["config"])), vocabulary, vocabulary, optimizer)
partitioner = partitioning.PjitPartitioner(num_partitions=1)
batch = dict(np.load(job["batch"]))
initializer = utils.TrainStateInitializer(
    optimizer, model.get_initial_variables, {name: rows.shape for name, rows in batch.items()}, partitioner
)
results = {}
for layout, use_orbax in (("orbax", True), ("legacy", False)):
    path = job[layout]
    cfg = utils.RestoreCheckpointConfig(path=path, mode="specific", dtype="float32")
    state, _ = utils.create_checkpoint_manager_and_restore(
        initializer, partitioner, cfg, path, None, use_orbax=use_orbax
    )
    results[layout + "/step"] = np.asarray(state.step)
    results[layout + "/logits"] = np.asarray(model._compute_logits(state.params, batch, None))
    states = jax.tree_util.tree_leaves(state.state_dict()["state"]["param_states"])
    results[layout + "/moments"] = np.float64(sum(float(np.abs(np.asarray(leaf, np.float64)).sum()) for leaf in states))
np.savez(job["results"], **results)
"""


@pytest.fixture(scope="module")
def t5x():
    """run(job): runs the code above where T5X can be imported."""
    source = os.environ.get("T5X_SOURCE", "")
    environment = {**os.environ, "PYTHONPATH": source, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""}
    found = source and subprocess.run(
        [PYTHON, "-c", "import t5x.version"], env=environment, capture_output=True
    )
    if not source or found.returncode != 0:
        pytest.skip("T5X cannot be imported; set T5X_SOURCE (its source trees) and T5X_PYTHON, see above")

    def run(job):
        done = subprocess.run(
            [PYTHON, "-c", T5X, json.dumps(job)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        with np.load(job["results"]) as results:
            return dict(results)

    return run


@pytest.mark.slow
def test_t5x_restores_our_checkpoints_of_both_layouts(t5x, tmp_path):
    vocabulary = seqio.PassThroughVocabulary(size=CONFIG["vocab_size"], eos_id=1)
    optimizer = adafactor.Adafactor(
        decay_rate=0.8, logical_factor_rules=adafactor.standard_logical_factor_rules()
    )
    model = models.EncoderDecoderModel(
        network.Transformer(network.T5Config(**CONFIG)), vocabulary, vocabulary, optimizer
    )
    names = ("encoder_input_tokens", "decoder_input_tokens", "decoder_target_tokens")
    rng = np.random.default_rng(0)
    batch = {name: rng.integers(1, CONFIG["vocab_size"], (2, 7)).astype(np.int32) for name in names}
    partitioner = PjitPartitioner(num_partitions=2)
    state = TrainStateInitializer(
        optimizer, model.get_initial_variables, {name: (4, 7) for name in names}, partitioner
    ).from_scratch(jax.random.key(3))
    moments = jax.tree.map(lambda leaf: leaf + jnp.float32(0.25), state.param_states)
    state = state.replace(step=jnp.int32(10), param_states=moments)

    checkpoints = RunCheckpoints(tmp_path, SaveCheckpointConfig())
    checkpoints.save(10, state, StreamPosition(seed=0, next_draw=80))
    checkpoints.close()
    ours = tmp_path / "checkpoint_10"
    write_checkpoint(tmp_path / "legacy" / "checkpoint_10", open_checkpoint(ours).arrays().items())
    np.savez(tmp_path / "batch.npz", **batch)
    results = t5x(
        {
            "config": CONFIG,
            "batch": str(tmp_path / "batch.npz"),
            "orbax": str(ours),
            "legacy": str(tmp_path / "legacy" / "checkpoint_10"),
            "results": str(tmp_path / "results.npz"),
        }
    )
    logits = jax.jit(model._compute_logits)(state.params, batch)
    moments_sum = sum(np.abs(np.asarray(leaf, np.float64)).sum() for leaf in jax.tree.leaves(moments))
    for layout in ("orbax", "legacy"):
        assert results[f"{layout}/step"] == 10
        np.testing.assert_allclose(results[f"{layout}/logits"], logits, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(results[f"{layout}/moments"], moments_sum, rtol=1e-12)
