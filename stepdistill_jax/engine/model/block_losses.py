"""The cross-entropy from hidden states, in blocks of tokens: logits of the whole batch never exist.

Peak memory holds two arrays of block_tokens · vocab a device, whatever the batch and the length. The gradient is made in
the forward pass, block by block while its logits are there (the loss is a weighted sum, so all that is still missing is
one factor): three products with the output kernel, as without blocks, and none of them twice. Tokens that do not count, such
as padding and a language model's inputs, are put behind the others on their device, and blocks of nothing else are left out.
"""

import dataclasses
import functools
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct
from flax.linen.partitioning import with_sharding_constraint
from jaxtyping import Array, Bool, Float, Int, Shaped

from stepdistill_jax.engine.model.losses import smoothing


@dataclasses.dataclass(frozen=True)
class _Settings:
    z_loss: float
    label_smoothing: float
    num_shards: int
    dot_dtype: Any


@struct.dataclass
class TokenLosses:
    """What is known of each target token; for metrics, without gradient.

    Attributes:
      losses: float32 [batch, length] in nats, z-loss included; 0.0 for tokens that do not count.
      z_losses: float32 [batch, length], the z-loss alone.
      correct: bool [batch, length], whether no other token has a higher logit than the target.
    """

    losses: jax.Array
    z_losses: jax.Array
    correct: jax.Array


def weighted_token_losses(
    hidden: Float[Array, "batch length embed"],
    kernel: Float[Array, "embed vocab"],
    targets: Int[Array, "batch length"],
    weights: Shaped[Array, "batch length"],
    *,
    z_loss: float = 0.0,
    label_smoothing: float = 0.0,
    block_tokens: int = 1024,
    counts: Bool[Array, "batch length"] | None = None,
    dot_dtype: Any = jnp.float32,
) -> tuple[Float[Array, ""], TokenLosses]:
    """(sum of weight · loss over the target tokens, each token's losses), as `losses.token_losses` has them.

    Args:
      hidden: the decoder's last states, any float dtype; logits are float32, hidden times kernel.
      weights: of each token's loss; the sum is differentiated by hidden, kernel and weights.
      block_tokens: tokens a device works on at once; without `counts`, rounded to whole columns of the batch (at least one).
      counts: which tokens' losses are wanted, at least all that weigh something; None: all.
      dot_dtype: of both factors of every product with the kernel, of its gradient, too; sums are float32.
    """
    shape = targets.shape
    num_shards = _num_batch_shards(shape[0])
    if counts is not None:  # a device's tokens become one row, in which those that count come first
        hidden, targets, weights, counts = (
            rows.reshape(num_shards, -1, *rows.shape[2:]) for rows in (hidden, targets, weights, counts)
        )
        order = jnp.argsort(~counts, axis=-1, stable=True)
        back = jnp.argsort(order, axis=-1)
        hidden = _reordered(hidden, order, back)
        targets, weights, counts = (
            jnp.take_along_axis(rows, order, axis=-1) for rows in (targets, weights, counts)
        )
    batch_size, length = targets.shape
    block_length = max(1, min(length, block_tokens * num_shards // batch_size))
    settings = _Settings(float(z_loss), float(label_smoothing), num_shards, jnp.dtype(dot_dtype))
    padding = -length % block_length

    def blocks(rows: jax.Array) -> jax.Array:
        rows = jnp.pad(rows, ((0, 0), (0, padding)) + ((0, 0),) * (rows.ndim - 2))
        return jnp.moveaxis(rows.reshape(batch_size, -1, block_length, *rows.shape[2:]), 1, 0)

    loss, tokens = _block_losses(
        blocks(hidden.astype(jnp.float32)),
        with_sharding_constraint(kernel.astype(jnp.float32), (None, "vocab")),  # gathered once, not a block
        blocks(targets),
        blocks(weights.astype(jnp.float32)),
        None if counts is None else jnp.any(blocks(counts), axis=(1, 2)),
        settings,
    )
    tokens = jax.tree.map(
        lambda of_blocks: jnp.moveaxis(of_blocks, 0, 1).reshape(batch_size, -1)[:, :length], tokens
    )
    if counts is not None:
        tokens = jax.tree.map(lambda rows: jnp.take_along_axis(rows, back, axis=-1).reshape(shape), tokens)
    return loss, tokens


@jax.custom_vjp
def _reordered(
    hidden: Float[Array, "batch length embed"],
    order: Int[Array, "batch length"],
    back: Int[Array, "batch length"],
) -> Float[Array, "batch length embed"]:
    """Row r's token order[r, i] at place i; `back` undoes it, so that the gradient is a lookup, too, and no scatter."""
    return jnp.take_along_axis(hidden, order[..., None], axis=1)


_reordered.defvjp(
    lambda hidden, order, back: (_reordered(hidden, order, back), (order, back)),
    lambda orders, gradient: (_reordered(gradient, *reversed(orders)), None, None),
)


def _num_batch_shards(batch_size: int) -> int:
    """Over how many devices the rows of a batch are split, by the mesh and the rules that the trainer traces under."""
    mesh_axes = dict(nn.get_logical_axis_rules()).get("batch") or ()
    mesh_axes = (mesh_axes,) if isinstance(mesh_axes, str) else mesh_axes
    sizes = jax.sharding.get_abstract_mesh().shape
    num_shards = math.prod(sizes.get(axis, 1) for axis in mesh_axes)
    return num_shards if batch_size % num_shards == 0 else 1


@functools.partial(jax.custom_vjp, nondiff_argnums=(5,))
def _block_losses(hidden, kernel, targets, weights, block_counts, settings):
    """(weighted sum, TokenLosses [blocks, batch, length]) of [blocks, batch, length, ...] arrays.

    `block_counts`, bool [blocks], says which blocks are computed at all; None: all.
    """

    def add_block(loss, block):
        hidden, targets, weights = block
        losses, _ = _losses_of_block(_logits(hidden, kernel, settings), targets, settings)
        return loss + jnp.sum(losses.losses * weights), losses

    return _scan_blocks(add_block, jnp.zeros(()), (hidden, targets, weights), block_counts)


def _scan_blocks(add_block, sums, blocks, block_counts):
    """`jax.lax.scan` over the blocks that count; the others add nothing and give zeros."""
    if block_counts is None:
        return jax.lax.scan(add_block, sums, blocks)
    results = jax.eval_shape(add_block, sums, jax.tree.map(lambda rows: rows[0], blocks))[1]
    nothing = jax.tree.map(lambda result: jnp.zeros(result.shape, result.dtype), results)

    def add_if_it_counts(sums, block):
        block_counts, block = block
        return jax.lax.cond(block_counts, add_block, lambda sums, block: (sums, nothing), sums, block)

    return jax.lax.scan(add_if_it_counts, sums, (block_counts, blocks))


def _logits(hidden: jax.Array, kernel: jax.Array, settings: _Settings) -> jax.Array:
    return _product("ble,ev->blv", hidden, kernel, settings)


def _product(axes: str, left: jax.Array, right: jax.Array, settings: _Settings) -> jax.Array:
    left, right = left.astype(settings.dot_dtype), right.astype(settings.dot_dtype)
    return jnp.einsum(axes, left, right, preferred_element_type=jnp.float32)


def _losses_of_block(
    logits: Float[Array, "batch length vocab"], targets: Int[Array, "batch length"], settings: _Settings
) -> tuple[
    TokenLosses, tuple[Float[Array, "batch length vocab"], Bool[Array, "batch length vocab"], jax.Array]
]:
    """(losses, (softmax, which entry is the target's, log Z))."""
    confidence, low_confidence, entropy = smoothing(settings.label_smoothing, logits.shape[-1])
    logits = with_sharding_constraint(logits, ("batch", "length", "vocab"))
    highest = jnp.max(logits, axis=-1)
    exponentials = jnp.exp(logits - highest[..., None])
    normaliser = jnp.sum(exponentials, axis=-1)
    log_z = highest + jnp.log(normaliser)
    # A masked sum, not a lookup: where the vocabulary is split over devices, each adds up its own part.
    is_target = jax.lax.broadcasted_iota(targets.dtype, logits.shape, logits.ndim - 1) == targets[..., None]
    target_logits = jnp.sum(jnp.where(is_target, logits, 0.0), axis=-1)
    expected_logits = (confidence - low_confidence) * target_logits
    if low_confidence:
        expected_logits = expected_logits + low_confidence * jnp.sum(logits, axis=-1)
    z_losses = settings.z_loss * jnp.square(log_z)
    losses = TokenLosses(
        losses=log_z - expected_logits - entropy + z_losses,
        z_losses=z_losses,
        correct=target_logits >= highest,
    )
    return losses, (exponentials / normaliser[..., None], is_target, log_z)


def _forward(hidden, kernel, targets, weights, block_counts, settings):
    confidence, low_confidence, _ = smoothing(settings.label_smoothing, kernel.shape[-1])

    def add_block(sums, block):
        loss, kernel_gradient = sums
        hidden, targets, weights = block
        losses, (softmax, is_target, log_z) = _losses_of_block(
            _logits(hidden, kernel, settings), targets, settings
        )
        pull = softmax * (weights * (1.0 + 2.0 * settings.z_loss * log_z))[..., None]
        if low_confidence:
            pull = pull - (low_confidence * weights)[..., None]
        push = ((confidence - low_confidence) * weights)[..., None]
        logits_gradient = jnp.where(is_target, pull - push, pull)  # [batch, length, vocab]
        hidden_gradient = _product("blv,ev->ble", logits_gradient, kernel, settings)
        # Each device that holds rows adds up a kernel's gradient of its own; they are summed once, after the last block.
        by_shard = (settings.num_shards, -1)
        kernel_gradient += _product(
            "ste,stv->sev",
            hidden.reshape(*by_shard, hidden.shape[-1]),
            logits_gradient.reshape(*by_shard, kernel.shape[-1]),
            settings,
        )
        kernel_gradient = with_sharding_constraint(kernel_gradient, ("batch", None, "vocab"))
        return (loss + jnp.sum(losses.losses * weights), kernel_gradient), (losses, hidden_gradient)

    zeros = jnp.zeros((settings.num_shards, *kernel.shape))
    (loss, kernel_gradient), (losses, hidden_gradient) = _scan_blocks(
        add_block, (jnp.zeros(()), zeros), (hidden, targets, weights), block_counts
    )
    return (loss, losses), (hidden_gradient, jnp.sum(kernel_gradient, axis=0), losses.losses)


def _backward(settings, residuals, cotangents):
    hidden_gradient, kernel_gradient, losses = residuals
    scale = cotangents[0]  # of the weighted sum; the losses of each token carry no gradient
    return hidden_gradient * scale, kernel_gradient * scale, None, losses * scale, None


_block_losses.defvjp(_forward, _backward)
