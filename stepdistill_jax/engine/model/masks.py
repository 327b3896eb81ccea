"""Which query may look at which key."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, Shaped


def make_attention_mask(
    query: Shaped[Array, "batch queries"],
    key: Shaped[Array, "batch keys"],
    pairwise_fn: Callable[[Any, Any], Any] = jnp.logical_and,
) -> Bool[Array, "batch 1 queries keys"]:
    """True where `pairwise_fn` holds for a query's and a key's value; the axis of 1 stands for the heads."""
    return pairwise_fn(query[:, None, :, None], key[:, None, None, :]).astype(jnp.bool_)


def make_decoder_mask(
    target_tokens: Int[Array, "batch length"],
    segment_ids: Int[Array, "batch length"] | None = None,
    causal_attention: Int[Array, "batch length"] | None = None,
) -> Bool[Array, "batch 1 length length"]:
    """Causal, blind to padding, and within a packed row blind to other segments.

    `causal_attention` is 1 on inputs that see each other in both directions (a prefix LM), for all its name in SeqIO.

    target_tokens = [6, 7, 5, 0]        mask = [[1, 0, 0, 0],
    segment_ids   = [1, 1, 2, 0]                [1, 1, 0, 0],
                                                [0, 0, 1, 0],
                                                [0, 0, 0, 0]]
    """
    positions = jnp.broadcast_to(jnp.arange(target_tokens.shape[1]), target_tokens.shape)
    mask = make_attention_mask(positions, positions, jnp.greater_equal)
    if causal_attention is not None:
        mask |= make_attention_mask(causal_attention > 0, causal_attention > 0)
    mask &= make_attention_mask(target_tokens > 0, target_tokens > 0)
    if segment_ids is not None:
        mask &= make_attention_mask(segment_ids, segment_ids, jnp.equal)
    return mask
