"""Computes t5_1_0_tiny.npz: what T5X itself makes of a tiny T5 v1.0 (tied logits, relu).

    PYTHONPATH=<T5X's tree and those of its git dependencies> python tests/goldens/make_t5_1_0.py

Runs in an environment with T5X only; nothing of this project is imported. Everything is float32 on a CPU.
Keys: `config` (JSON: sizes, settings, versions), `params/<path>`, `batch/<feature>`, `logits`, `loss_sum`, `z_loss_sum`,
`grad_norms/<path>`, `adafactor/losses` (before each of 4 steps) and `adafactor/param_norms/<path>` (after them),
`scores` (score_batch), and `{greedy,beam4}/{tokens,scores}` decoded from `decode_params`, which are `params` with the
embedding scaled so that logits differ enough to be told apart.
"""

import importlib.metadata
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import seqio
from flax import traverse_util
from t5x import adafactor, decoding, models
from t5x.examples.t5 import network

SIZES = {
    "vocab_size": 160,
    "emb_dim": 32,
    "num_heads": 4,
    "num_encoder_layers": 2,
    "num_decoder_layers": 2,
    "head_dim": 8,
    "mlp_dim": 64,
    "mlp_activations": ["relu"],
    "dropout_rate": 0.0,
    "logits_via_embedding": True,
    "dtype": "float32",
}
Z_LOSS = 1e-4
LEARNING_RATE = 1e-3
NUM_STEPS = 4
ROWS, INPUTS, TARGETS = 4, 14, 10


def make_batch() -> dict[str, np.ndarray]:
    """Random rows of different lengths; targets end with EOS (1)."""
    rng = np.random.default_rng(0)
    inputs, targets = np.zeros((ROWS, INPUTS), np.int32), np.zeros((ROWS, TARGETS), np.int32)
    for row in range(ROWS):
        num_inputs, num_targets = INPUTS - 3 * row, TARGETS - 2 * row
        inputs[row, :num_inputs] = rng.integers(2, SIZES["vocab_size"], num_inputs)
        targets[row, : num_targets - 1] = rng.integers(2, SIZES["vocab_size"], num_targets - 1)
        targets[row, num_targets - 1] = 1
    return {
        "encoder_input_tokens": inputs,
        "decoder_input_tokens": np.pad(targets, ((0, 0), (1, 0)))[:, :-1],
        "decoder_target_tokens": targets,
        "decoder_loss_weights": (targets > 0).astype(np.int32),
    }


def make_model(decode_fn=decoding.temperature_sample, **arguments) -> models.EncoderDecoderModel:
    vocabulary = seqio.PassThroughVocabulary(size=SIZES["vocab_size"], eos_id=1)
    return models.EncoderDecoderModel(
        module=network.Transformer(network.T5Config(**SIZES)),
        input_vocabulary=vocabulary,
        output_vocabulary=vocabulary,
        optimizer_def=adafactor.Adafactor(
            decay_rate=0.8,
            step_offset=0,
            logical_factor_rules=adafactor.standard_logical_factor_rules(),
        ),
        decode_fn=decode_fn,
        z_loss=Z_LOSS,
        **arguments,
    )


def flat(tree) -> dict[str, np.ndarray]:
    return {
        "/".join(path): np.asarray(leaf)
        for path, leaf in traverse_util.flatten_dict(dict(jax.device_get(tree))).items()
    }


def train(params, axes, batch) -> tuple[list[float], dict[str, np.ndarray]]:
    """(loss before each Adafactor step, parameters after the last)."""
    model = make_model(loss_normalizing_factor="NUM_REAL_TARGET_TOKENS")
    optimizer = model.optimizer_def
    optimizer.set_param_axes(axes)
    state = optimizer.init_state(params)
    hyper_params = optimizer.hyper_params.replace(learning_rate=LEARNING_RATE)

    @jax.jit
    def step(params, state):
        (loss, _), grads = jax.value_and_grad(model.loss_fn, has_aux=True)(params, batch, None)
        return loss, *optimizer.apply_gradient(hyper_params, params, state, grads)

    losses = []
    for _ in range(NUM_STEPS):
        loss, params, state = step(params, state)
        losses.append(float(loss))
    return losses, flat(params)


def decode(params, batch, name) -> dict[str, np.ndarray]:
    decode_fn, num_decodes, settings = {
        "greedy": (decoding.temperature_sample, 1, {"temperature": 0.0}),
        "beam4": (decoding.beam_search, 4, {"alpha": 0.6}),
    }[name]
    tokens, aux = jax.jit(
        lambda p: make_model(decode_fn).predict_batch_with_aux(
            p, batch, decoder_params=dict(settings), return_all_decodes=True, num_decodes=num_decodes
        )
    )(params)
    return {f"{name}/tokens": np.asarray(tokens, np.int32), f"{name}/scores": np.asarray(aux["scores"])}


def main() -> None:
    batch, model = make_batch(), make_model()
    shapes = {"encoder_input_tokens": (ROWS, INPUTS), "decoder_input_tokens": (ROWS, TARGETS)}
    variables = model.get_initial_variables(jax.random.PRNGKey(0), shapes)
    params = traverse_util.unflatten_dict(flat(variables["params"]), sep="/")
    axes = {
        (*path[:-1], path[-1].removesuffix("_axes")): jax.sharding.PartitionSpec(*leaf.names)
        for path, leaf in traverse_util.flatten_dict(dict(variables["params_axes"])).items()
    }
    jax_batch = {name: jnp.asarray(rows) for name, rows in batch.items()}
    (loss, metrics), grads = jax.jit(jax.value_and_grad(model.loss_fn, has_aux=True))(params, jax_batch, None)
    losses, trained = train(params, traverse_util.unflatten_dict(axes), jax_batch)
    versions = {name: importlib.metadata.version(name) for name in ("jax", "jaxlib", "flax", "numpy")}
    values = {
        "config": json.dumps(
            {
                **SIZES,
                "z_loss": Z_LOSS,
                "learning_rate": LEARNING_RATE,
                "versions": {**versions, "t5x": "April 2026"},
            }
        ),
        "logits": np.asarray(jax.jit(model._compute_logits)(params, jax_batch)),
        "loss_sum": np.asarray(loss),
        "z_loss_sum": np.asarray(metrics["z_loss"].total),
        "scores": np.asarray(jax.jit(model.score_batch)(params, jax_batch)),
        "adafactor/losses": np.asarray(losses),
        "decode_scale": np.float32(3.0),
        **{f"params/{path}": leaf for path, leaf in flat(params).items()},
        **{f"batch/{name}": rows for name, rows in batch.items()},
        **{
            f"grad_norms/{path}": np.linalg.norm(leaf.astype(np.float64))
            for path, leaf in flat(grads).items()
        },
        **{f"adafactor/param_norms/{path}": np.linalg.norm(leaf) for path, leaf in trained.items()},
    }
    scaled = traverse_util.unflatten_dict(flat(params), sep="/")
    scaled["token_embedder"]["embedding"] = scaled["token_embedder"]["embedding"] * values["decode_scale"]
    for name in ("greedy", "beam4"):
        values |= decode(scaled, jax_batch, name)
    path = Path(__file__).with_name("t5_1_0_tiny.npz")
    np.savez_compressed(path, **values)
    print(f"{path}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
