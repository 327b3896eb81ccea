"""The sizes of the tiny decoder-only networks of these tests: two layers, query heads in groups of two."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from stepdistill_jax.engine.model import llama

SIZES = {
    "emb_dim": 16,
    "num_heads": 4,
    "num_kv_heads": 2,
    "num_layers": 2,
    "head_dim": 4,
    "mlp_dim": 24,
}
# What tells a family, apart from sizes.
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "llama_3": {
        "rope_theta": 500_000.0,
        "rope_factor": 4.0,
        "rope_low_frequency_factor": 1.0,
        "rope_high_frequency_factor": 4.0,
        "rope_original_length": 8,
    },
    "qwen2": {"attention_bias": True, "logits_via_embedding": False},
    "qwen3": {"query_key_norm": True},
    "gemma3": {
        "mlp_activations": ("gelu", "linear"),
        "query_key_norm": True,
        "norm_offset": 1.0,
        "post_norms": True,
        "embedding_scale": True,
        "query_scale": 0.25,
        "sliding_window": 3,
        "global_every": 2,
        "rope_theta": 1_000_000.0,
    },
}


def tiny_llama(family: str = "llama", **changes: Any) -> llama.LlamaConfig:
    """The network of `SIZES` of a family, with changes; its vocabulary has 40 ids."""
    return llama.LlamaConfig(**{"vocab_size": 40, **SIZES, **FAMILIES[family], **changes})


def prefix_batch(inputs: list[list[int]], targets: list[list[int]], length: int) -> dict[str, jnp.ndarray]:
    """The features of SeqIO's PrefixLMFeatureConverter, int32 [rows, length], one example a row."""
    tokens, read, weights = (np.zeros((len(inputs), length), np.int32) for _ in range(3))
    for row, (asked, answered) in enumerate(zip(inputs, targets, strict=True)):
        tokens[row, : len(asked) + len(answered)] = [*asked, *answered]
        read[row, : len(asked) + 1] = 1
        weights[row, len(asked) : len(asked) + len(answered)] = 1
    return {
        "decoder_target_tokens": jnp.asarray(tokens),
        "decoder_input_tokens": jnp.asarray(np.pad(tokens, ((0, 0), (1, 0)))[:, :-1]),
        "decoder_loss_weights": jnp.asarray(weights),
        "decoder_causal_attention": jnp.asarray(read),
    }


def random_prefix_batch(rows: int = 3, length: int = 12, seed: int = 0) -> dict[str, jnp.ndarray]:
    """Rows of different lengths, of ids from 2 on; targets end with 1."""
    rng = np.random.default_rng(seed)
    inputs = [rng.integers(2, 40, 2 + row % 4).tolist() for row in range(rows)]
    targets = [[*rng.integers(2, 40, 2 + (row + 1) % 3).tolist(), 1] for row in range(rows)]
    return prefix_batch(inputs, targets, length)
