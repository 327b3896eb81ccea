"""DecoderOnlyModel against T5X's own, both around T5X's decoder-only network, in a process of T5X.

Runs where T5X can be imported: $T5X_SOURCE names its source tree (and those of its git dependencies, after colons), $T5X_PYTHON a Python
with its packages and ours:

    T5X_SOURCE=SRC/t5x:SRC/airio:SRC/jestimator T5X_PYTHON=VENV/bin/python pytest tests/engine/model/test_decoder_only_under_t5x.py
"""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
COMPARE = textwrap.dedent(
    """
    import json, sys
    import jax, jax.numpy as jnp, numpy as np
    from flax import core
    from t5x import models as theirs, optimizers as their_optimizers
    from t5x.examples.decoder_only import network
    from tiny_llama import random_prefix_batch
    from stepdistill_jax.engine.model import models as ours
    from stepdistill_jax.engine.optim import optimizers as our_optimizers

    class Words:
        vocab_size, eos_id = 40, 1

    config = network.TransformerConfig(
        vocab_size=40, emb_dim=16, num_heads=4, num_layers=2, head_dim=4, mlp_dim=24,
        mlp_activations=("gelu", "linear"), dropout_rate=0.0,
    )
    alone = random_prefix_batch()
    segments = np.where(np.arange(12) < 5, 1, 2) * (np.arange(12) < 9)
    positions = np.where(np.arange(12) < 5, np.arange(12), np.arange(12) - 5) * (np.arange(12) < 9)
    packed = {
        **alone,
        "decoder_segment_ids": jnp.asarray(np.tile(segments, (3, 1)).astype(np.int32)),
        "decoder_positions": jnp.asarray(np.tile(positions, (3, 1)).astype(np.int32)),
    }
    shapes, types = {"decoder_input_tokens": (2, 8)}, {"decoder_input_tokens": jnp.int32}
    for bidirectional in (False, True):
        for factor in (None, "NUM_REAL_TARGET_TOKENS"):
            settings = dict(
                inputs_bidirectional_attention=bidirectional, z_loss=1e-3, label_smoothing=0.1,
                loss_normalizing_factor=factor,
            )
            pair = [
                module.DecoderOnlyModel(network.DecoderWrapper(config), Words(), made.adamw(1e-3), **settings)
                for module, made in ((theirs, their_optimizers), (ours, our_optimizers))
            ]
            first = [core.unfreeze(m.get_initial_variables(jax.random.PRNGKey(0), shapes, types)["params"]) for m in pair]
            params = first[0]
            found = {"params": max(jax.tree.leaves(jax.tree.map(lambda a, b: float(abs(a - b).max()), *first)))}
            for name, batch in (("alone", alone), ("packed", packed)):
                results = [
                    jax.jit(jax.value_and_grad(lambda p, m=m: m.loss_fn(p, batch, None)[0]))(params) for m in pair
                ]
                (one, one_grads), (two, two_grads) = results
                found[f"{name} loss"] = abs(float(one) / float(two) - 1)
                gaps = jax.tree.map(lambda a, b: float(abs(a - b).max() / (1 + abs(b).max())), one_grads, two_grads)
                found[f"{name} gradient"] = max(jax.tree.leaves(gaps))
            scores = [m.score_batch(params, alone) for m in pair]
            found["scores"] = float(abs(scores[0] - scores[1]).max())
            large = jax.tree.map(lambda leaf: 3 * leaf, params)
            greedy = [np.asarray(m.predict_batch_with_aux(large, alone, decoder_params={"temperature": 0.0})[0]) for m in pair]
            found["greedy differ"] = int((greedy[0] != greedy[1]).sum())
            sampled = [
                np.asarray(m.predict_batch_with_aux(
                    large, alone, rng=jax.random.PRNGKey(3), num_decodes=3, return_all_decodes=True,
                    decoder_params={"temperature": 1.0, "topk": 5},
                )[0])
                for m in pair
            ]
            found["samples differ"] = int((sampled[0] != sampled[1]).sum())
            print("compared " + json.dumps(found), flush=True)
    """
)


@pytest.mark.slow
def test_losses_gradients_scores_and_tokens_are_t5x_s():
    source = os.environ.get("T5X_SOURCE")
    if not source:
        pytest.skip("set T5X_SOURCE and T5X_PYTHON to compare with T5X itself")
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}:{source}", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [os.environ.get("T5X_PYTHON", sys.executable), "-c", COMPARE],
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
    )
    lines = [
        line.removeprefix("compared ") for line in done.stdout.splitlines() if line.startswith("compared ")
    ]
    assert len(lines) == 4, done.stderr[-3000:]
    for found in map(json.loads, lines):
        assert {name: gap for name, gap in found.items() if gap > 1e-5} == {}
