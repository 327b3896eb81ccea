"""How decodes of one row stand beside each other in a batch, and what decode functions hand to the model.

A batch of B rows with N decodes (beams, samples) is laid out as [B * N]: row 0's decodes first.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct, traverse_util
from jaxtyping import Array, Int, Shaped

PyTree = Any

# T5X's stand-in for minus infinity; its scores of beams that never were are of this size.
NEG_INF = -1.0e7

# Cache entries that belong to all rows: never expanded or gathered.
_SHARED_ENTRIES = ("cache_index", "cached_bias", "position_embedder_index")
# Cache entries of the encoded inputs: the same for all beams of a row, so a change of beams leaves them as they are.
_ENCODED_ENTRIES = ("encoded_key", "encoded_value")


@struct.dataclass
class DecodingState:
    """What `tokens_to_logits` gets.

    Attributes:
      cur_index: position of the current token, a scalar or int32 [rows].
      sequences: int32 [rows, length], the tokens so far.
      cur_token: int32 [rows, 1], the token to go on from.
      cache: the model's cache, rows along the batch axis.
    """

    cur_index: jax.Array
    sequences: jax.Array
    cur_token: jax.Array
    cache: PyTree


TokensToLogits = Callable[[DecodingState], tuple[jax.Array, PyTree]]


def cache_map(
    fn: Callable[[jax.Array], jax.Array],
    cache: PyTree,
    apply_to_index: bool = False,
    skip: tuple[str, ...] = (),
) -> PyTree:
    """The cache with `fn` on every entry that has a row per batch row; those named in `skip` stay as they are."""
    shared = [name for name in _SHARED_ENTRIES if not (apply_to_index and name == "cache_index")]
    flat = traverse_util.flatten_dict(dict(cache))
    return traverse_util.unflatten_dict(
        {path: entry if path[-1] in (*shared, *skip) else fn(entry) for path, entry in flat.items()}
    )


def flat_batch_beam_expand(
    rows: Shaped[Array, "..."], beam_size: int, offset: int = 0
) -> Shaped[Array, "..."]:
    """[batch, ...] to [batch * beam_size, ...], each row repeated in place; `offset` is where the batch axis stands."""
    return rows if beam_size == 1 else jnp.repeat(rows, beam_size, axis=offset)


def flatten_beam_dim(beams: Shaped[Array, "..."], offset: int = 0) -> Shaped[Array, "..."]:
    """[batch, beams, ...] to [batch * beams, ...]."""
    shape = beams.shape
    return beams.reshape(*shape[:offset], shape[offset] * shape[offset + 1], *shape[offset + 2 :])


def unflatten_beam_dim(
    rows: Shaped[Array, "..."], batch_size: int, beam_size: int, offset: int = 0
) -> Shaped[Array, "..."]:
    """[batch * beams, ...] to [batch, beams, ...]."""
    return rows.reshape(*rows.shape[:offset], batch_size, beam_size, *rows.shape[offset + 1 :])


def gather_beams(nested: PyTree, beam_indices: Int[Array, "batch beams"]) -> PyTree:
    """Arrays [batch, old beams, ...] of a tree, to [batch, beams, ...] in the order of `beam_indices`."""
    take = jax.vmap(lambda beams, indices: beams[indices])
    return jax.tree.map(lambda beams: take(beams, beam_indices), nested)


def gather_cache_beams(cache: PyTree, beam_indices: Int[Array, "batch beams"], offset: int = 0) -> PyTree:
    """The cache of a search whose beams go on from the old beams `beam_indices`; `offset` is its batch axis."""
    batch_size, beam_size = beam_indices.shape

    def gather(rows: jax.Array) -> jax.Array:
        beams = jnp.moveaxis(rows, offset, 0).reshape(batch_size, beam_size, -1)
        rows_first = gather_beams(beams, beam_indices).reshape(jnp.moveaxis(rows, offset, 0).shape)
        return jnp.moveaxis(rows_first, 0, offset)

    return cache_map(gather, cache, skip=_ENCODED_ENTRIES)
