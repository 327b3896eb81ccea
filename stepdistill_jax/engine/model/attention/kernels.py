"""Attention over packed rows as Pallas kernels: blocks of scores that belong to no one are never computed.

A row of 1,024 tokens holds some 20 examples, and a token sees its own example alone: more than nine tenths of all scores are
masked. Here a block of queries goes only through those blocks of keys that hold tokens of its segments, forward and backward
(FlashAttention: Dao et al. 2022, arXiv:2205.14135, Algorithms 1 and 4). T5's relative position biases are looked up by distance
in the kernel; an array [heads, queries, keys] of them, or of their gradients, never exists. All sums are in a fixed order: no
atomic additions.

Triton compiles the kernels for GPUs; on a CPU they are interpreted, for tests. `segment_attention` is what callers take.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton
from jaxtyping import Array, Bool, Float, Int

BLOCK = 64  # queries, and keys, of a block

_MASKED = -1e30  # finite: differences of two of them are no NaN


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a kernel is specialised for.

    Attributes:
      scale: what products of query and key are multiplied by.
      causal: whether a query sees no key behind its own place.
      max_distance: |key - query| from which on all biases of a direction are the same; the table has 2 · max_distance + 1 of them.
      interpret: whether the kernel is interpreted (on a CPU).
    """

    scale: float
    causal: bool
    max_distance: int
    interpret: bool

    @property
    def near(self) -> int:
        """Blocks to either side within which biases differ."""
        return -(-self.max_distance // BLOCK)


def visible_blocks(
    query_segments: Int[Array, "batch queries"], key_segments: Int[Array, "batch keys"], *, causal: bool
) -> Bool[Array, "batch query_blocks key_blocks"]:
    """Which blocks hold a query and a key that it sees; 0 is padding, and lengths are multiples of `BLOCK`."""
    sees = (query_segments[:, :, None] == key_segments[:, None, :]) & (key_segments != 0)[:, None, :]
    batch, queries, keys = sees.shape
    if causal:
        sees &= (jnp.arange(queries)[:, None] >= jnp.arange(keys)[None, :])[None]
    return jnp.any(sees.reshape(batch, queries // BLOCK, BLOCK, keys // BLOCK, BLOCK), axis=(2, 4))


def bounds(
    visible: Bool[Array, "batch blocks others"],
) -> tuple[Int[Array, "batch blocks"], Int[Array, "batch blocks"]]:
    """(first, end) of the others that a block has to go through: all that are visible, and those between them."""
    others = visible.shape[-1]
    places = jnp.arange(others, dtype=jnp.int32)[None, None, :]
    first = jnp.min(jnp.where(visible, places, others), axis=-1)
    end = jnp.max(jnp.where(visible, places + 1, 0), axis=-1)
    return first, end


def _rows(ref: Any, block: Any) -> jax.Array:
    """Rows of a block, [BLOCK, kv] or [BLOCK]."""
    return ref[pl.ds(block * BLOCK, BLOCK)]


def _scores(settings, query, key, query_block, key_block, query_segments, key_segments, biases_ref):
    """(scores, which of them count) of a block of queries and one of keys: float32 and bool [BLOCK, BLOCK]."""
    scores = triton.dot(query, key.T).astype(jnp.float32) * settings.scale
    query_places = query_block * BLOCK + jnp.arange(BLOCK)[:, None]
    key_places = key_block * BLOCK + jnp.arange(BLOCK)[None, :]
    if biases_ref is not None:
        distance = jnp.clip(key_places - query_places, -settings.max_distance, settings.max_distance)
        scores += biases_ref[distance + settings.max_distance]
    counts = (query_segments[:, None] == key_segments[None, :]) & (key_segments != 0)[None, :]
    if settings.causal:
        counts &= query_places >= key_places
    return jnp.where(counts, scores, _MASKED), counts


def forward_kernel(
    first_ref, end_ref, query_ref, key_ref, value_ref, query_segments_ref, key_segments_ref, biases_ref, out_ref, log_sum_ref,
    *, settings: Settings,
):  # fmt: skip
    query, query_segments = query_ref[...], query_segments_ref[...]
    query_block = pl.program_id(2)

    def add_block(key_block, carry):
        total, highest, summed = carry
        scores, counts = _scores(
            settings, query, _rows(key_ref, key_block), query_block, key_block,
            query_segments, _rows(key_segments_ref, key_block), biases_ref,
        )  # fmt: skip
        new_highest = jnp.maximum(highest, jnp.max(scores, axis=1))
        weights = jnp.where(counts, jnp.exp(scores - new_highest[:, None]), 0.0)
        shrunk = jnp.exp(highest - new_highest)
        value = _rows(value_ref, key_block)
        total = total * shrunk[:, None] + triton.dot(weights.astype(value.dtype), value).astype(jnp.float32)
        return total, new_highest, summed * shrunk + jnp.sum(weights, axis=1)

    begin = (
        jnp.zeros(query.shape, jnp.float32),
        jnp.full((BLOCK,), _MASKED, jnp.float32),
        jnp.zeros((BLOCK,), jnp.float32),
    )
    total, highest, summed = jax.lax.fori_loop(first_ref[...], end_ref[...], add_block, begin)
    # A query that sees nothing gets zeros: padding, or a target whose inputs are empty.
    sees = summed > 0.0
    summed = jnp.where(sees, summed, 1.0)
    out_ref[...] = (total / summed[:, None]).astype(out_ref.dtype)
    log_sum_ref[...] = jnp.where(sees, highest + jnp.log(summed), 0.0)


def _weights_and_pull(settings, query, key, value, out_gradient, log_sum, pulled, *places_and_segments):
    """(softmax weights, gradient of the scores) of one block of scores: float32 [BLOCK, BLOCK] each."""
    scores, counts = _scores(settings, query, key, *places_and_segments)
    weights = jnp.where(counts, jnp.exp(scores - log_sum[:, None]), 0.0)
    weights_gradient = triton.dot(out_gradient, value.T).astype(jnp.float32)
    return weights, weights * (weights_gradient - pulled[:, None])


def query_gradient_kernel(
    first_ref, end_ref, query_ref, key_ref, value_ref, query_segments_ref, key_segments_ref, biases_ref, log_sum_ref,
    pulled_ref, out_gradient_ref, gradient_ref, *, settings: Settings,
):  # fmt: skip
    query, query_segments = query_ref[...], query_segments_ref[...]
    out_gradient, log_sum, pulled = out_gradient_ref[...], log_sum_ref[...], pulled_ref[...]
    query_block = pl.program_id(2)

    def add_block(key_block, gradient):
        key = _rows(key_ref, key_block)
        _, pull = _weights_and_pull(
            settings, query, key, _rows(value_ref, key_block), out_gradient, log_sum, pulled,
            query_block, key_block, query_segments, _rows(key_segments_ref, key_block), biases_ref,
        )  # fmt: skip
        return gradient + triton.dot(pull.astype(key.dtype), key).astype(jnp.float32)

    gradient = jax.lax.fori_loop(first_ref[...], end_ref[...], add_block, jnp.zeros(query.shape, jnp.float32))
    gradient_ref[...] = (gradient * settings.scale).astype(gradient_ref.dtype)


def key_value_gradient_kernel(
    first_ref, end_ref, query_ref, key_ref, value_ref, query_segments_ref, key_segments_ref, biases_ref, log_sum_ref,
    pulled_ref, out_gradient_ref, key_gradient_ref, value_gradient_ref, *, settings: Settings,
):  # fmt: skip
    key, value, key_segments = key_ref[...], value_ref[...], key_segments_ref[...]
    key_block = pl.program_id(2)

    def add_block(query_block, gradients):
        key_gradient, value_gradient = gradients
        query, out_gradient = _rows(query_ref, query_block), _rows(out_gradient_ref, query_block)
        weights, pull = _weights_and_pull(
            settings, query, key, value, out_gradient, _rows(log_sum_ref, query_block), _rows(pulled_ref, query_block),
            query_block, key_block, _rows(query_segments_ref, query_block), key_segments, biases_ref,
        )  # fmt: skip
        value_gradient += triton.dot(weights.T.astype(out_gradient.dtype), out_gradient).astype(jnp.float32)
        key_gradient += triton.dot(pull.T.astype(query.dtype), query).astype(jnp.float32)
        return key_gradient, value_gradient

    zeros = jnp.zeros(key.shape, jnp.float32)
    key_gradient, value_gradient = jax.lax.fori_loop(first_ref[...], end_ref[...], add_block, (zeros, zeros))
    key_gradient_ref[...] = (key_gradient * settings.scale).astype(key_gradient_ref.dtype)
    value_gradient_ref[...] = value_gradient.astype(value_gradient_ref.dtype)


def bias_gradient_kernel(
    first_ref, end_ref, query_ref, key_ref, value_ref, query_segments_ref, key_segments_ref, biases_ref, log_sum_ref,
    pulled_ref, out_gradient_ref, gradient_ref, *, settings: Settings,
):  # fmt: skip
    """Sums the scores' gradients over the rows of a batch, for one block of queries and one offset of blocks of keys.

    Offsets are -near … near, in each of which a place of the block is one distance; and before and behind them all blocks
    that are farther, where the distance no longer matters.
    """
    query_block, offset = pl.program_id(1), pl.program_id(2) - settings.near - 1
    nearest = query_block + offset
    is_before, is_behind = offset < -settings.near, offset > settings.near

    def add_row(row, gradient):
        query, out_gradient = query_ref[row], out_gradient_ref[row]
        query_segments, log_sum, pulled = query_segments_ref[row], log_sum_ref[row], pulled_ref[row]

        def add_block(key_block, gradient):
            keys = pl.ds(key_block * BLOCK, BLOCK)
            _, pull = _weights_and_pull(
                settings, query, key_ref[row, keys], value_ref[row, keys], out_gradient, log_sum, pulled,
                query_block, key_block, query_segments, key_segments_ref[row, keys], biases_ref,
            )  # fmt: skip
            return gradient + pull

        first, end = first_ref[row], end_ref[row]
        first = jnp.where(is_before, first, jnp.maximum(first, nearest))
        end = jnp.where(is_behind, end, jnp.minimum(end, nearest + 1))
        return jax.lax.fori_loop(first, end, add_block, gradient)

    zeros = jnp.zeros((BLOCK, BLOCK), jnp.float32)
    gradient_ref[...] = jax.lax.fori_loop(0, query_ref.shape[0], add_row, zeros)


def table_gradient(
    blocks: Float[Array, "heads query_blocks offsets queries keys"], settings: Settings
) -> Float[Array, "heads distances"]:
    """Gradients of the biases by distance, from those of `bias_gradient_kernel`: sums along diagonals."""
    heads = blocks.shape[0]
    blocks = jnp.sum(blocks, axis=1)[
        :, :, ::-1, :
    ]  # the last query first: then distance grows with row and column
    # Rows of 2 · BLOCK - 1 out of rows of 2 · BLOCK: each begins one place earlier than the last.
    skewed = jnp.pad(blocks, ((0, 0),) * 3 + ((0, BLOCK),)).reshape(heads, blocks.shape[1], -1)
    skewed = skewed[:, :, : BLOCK * (2 * BLOCK - 1)].reshape(heads, -1, BLOCK, 2 * BLOCK - 1)
    diagonals = jnp.sum(skewed, axis=2)  # [heads, offsets, 2 · BLOCK - 1]: distances from 1 - BLOCK on
    most = settings.max_distance
    near = jnp.zeros((heads, 2 * BLOCK * (settings.near + 1) - 1))  # distances within `near` blocks
    for place in range(2 * settings.near + 1):
        near = near.at[:, place * BLOCK : place * BLOCK + 2 * BLOCK - 1].add(diagonals[:, place + 1])
    beyond = near.shape[1] // 2 - most  # places on either side that are farther than the table goes
    table = near[:, beyond : near.shape[1] - beyond]
    before = jnp.sum(near[:, :beyond], axis=1) + jnp.sum(diagonals[:, 0], axis=-1)
    behind = jnp.sum(near[:, near.shape[1] - beyond :], axis=1) + jnp.sum(diagonals[:, -1], axis=-1)
    return table.at[:, 0].add(before).at[:, -1].add(behind)
