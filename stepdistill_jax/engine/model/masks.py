"""Which query may look at which key."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
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


@struct.dataclass
class SegmentMask:
    """A mask that is known by segments: a query sees the keys of its own segment, and causal, none behind its place.

    Attributes:
      query_segments: int [batch, queries]; 0 is padding.
      key_segments: int [batch, keys].
      causal: whether both are places of one row, of which a query sees those up to its own.
    """

    query_segments: jax.Array
    key_segments: jax.Array
    causal: bool = struct.field(pytree_node=False, default=False)

    def array(self) -> Bool[Array, "batch 1 queries keys"]:
        """True where a query may look."""
        mask = make_attention_mask(self.query_segments, self.key_segments, jnp.equal)
        mask &= (self.key_segments != 0)[:, None, None, :]
        if self.causal:
            queries, keys = mask.shape[2:]
            mask &= (jnp.arange(queries)[:, None] >= jnp.arange(keys)[None, :])[None, None]
        return mask


def segments(
    tokens: Shaped[Array, "batch length"], segment_ids: Shaped[Array, "batch length"] | None
) -> Int[Array, "batch length"]:
    """The segment of each token: its own in a packed row, else 1; 0 where there is padding (token 0)."""
    ids = jnp.ones_like(tokens) if segment_ids is None else segment_ids
    return jnp.where(tokens > 0, ids, 0).astype(jnp.int32)
