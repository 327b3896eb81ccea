"""Token losses, and what they are divided by, with T5X's names and numbers (`t5x.losses`).

Targets are token ids: no array of one-hot targets, as large as the logits, is made, forward or backward.
"""

import enum
import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Shaped


def smoothing(label_smoothing: float, vocab_size: int) -> tuple[float, float, float]:
    """(probability of the target, of each other token, entropy of that distribution in nats)."""
    confidence = 1.0 - label_smoothing
    low_confidence = label_smoothing / max(vocab_size - 1, 1)
    entropy = -(
        confidence * np.log(confidence) + (vocab_size - 1) * low_confidence * np.log(low_confidence + 1e-20)
    )
    return confidence, low_confidence, float(entropy)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _token_losses(
    logits: jax.Array, targets: jax.Array, z_loss: float, label_smoothing: float
) -> tuple[jax.Array, jax.Array]:
    return _token_losses_forward(logits, targets, z_loss, label_smoothing)[0]


def _token_losses_forward(logits, targets, z_loss, label_smoothing):
    confidence, low_confidence, entropy = smoothing(label_smoothing, logits.shape[-1])
    wide = logits.astype(jnp.float32)
    log_z = jax.nn.logsumexp(wide, axis=-1)  # [batch, length]
    target_logits = jnp.take_along_axis(wide, targets[..., None], axis=-1)[..., 0]
    # The smoothed distribution sums to 1, so -sum(p · log_softmax) = log_z - sum(p · logits).
    expected_logits = (confidence - low_confidence) * target_logits
    if low_confidence:
        expected_logits = expected_logits + low_confidence * jnp.sum(wide, axis=-1)
    z_losses = z_loss * jnp.square(log_z)
    return (log_z - expected_logits - entropy + z_losses, z_losses), (logits, targets, log_z)


def _token_losses_backward(z_loss, label_smoothing, residuals, cotangents):
    # Only logits and log_z are kept from the forward pass; the softmax is made again here, in one fused pass. The
    # z-loss is reported beside the loss but only trained on as part of it, as in T5X: its cotangent is dropped.
    logits, targets, log_z = residuals
    gradient = cotangents[0]
    confidence, low_confidence, _ = smoothing(label_smoothing, logits.shape[-1])
    scale = gradient * (1.0 + 2.0 * z_loss * log_z)
    pull = jnp.exp(logits.astype(jnp.float32) - log_z[..., None]) * scale[..., None]  # [batch, length, vocab]
    if low_confidence:
        pull = pull - (low_confidence * gradient)[..., None]
    is_target = jax.lax.broadcasted_iota(targets.dtype, logits.shape, logits.ndim - 1) == targets[..., None]
    push = ((confidence - low_confidence) * gradient)[..., None]
    return jnp.where(is_target, pull - push, pull).astype(logits.dtype), None


_token_losses.defvjp(_token_losses_forward, _token_losses_backward)


def token_cross_entropy(
    logits: Float[Array, "batch length vocab"],
    targets: Int[Array, "batch length"],
    z_loss: float = 0.0,
    label_smoothing: float = 0.0,
) -> Float[Array, "batch length"]:
    """The loss of each target token in nats: cross-entropy plus z_loss · log(Z)², before any weight.

    Args:
      logits: any float dtype; the softmax runs in float32, as bfloat16 keeps only 8 significant bits.
      targets: token ids in [0, vocab). Ids at padded places are read; weigh their losses with 0.
      z_loss: coefficient of T5's regulariser of the softmax normaliser Z.
      label_smoothing: probability spread evenly over the tokens other than the target. As in T5X, the entropy of that
        target distribution is taken off, so that a perfect model's loss is 0.
    """
    return token_losses(logits, targets, z_loss, label_smoothing)[0]


def token_losses(
    logits: Float[Array, "batch length vocab"],
    targets: Int[Array, "batch length"],
    z_loss: float = 0.0,
    label_smoothing: float = 0.0,
) -> tuple[Float[Array, "batch length"], Float[Array, "batch length"]]:
    """`token_cross_entropy`, and the z-loss that is part of it (for reporting; it carries no gradient)."""
    if not 0.0 <= label_smoothing < 1.0:
        raise ValueError(f"label_smoothing={label_smoothing}; it must lie in [0, 1).")
    if logits.shape[:-1] != targets.shape:
        raise ValueError(
            f"logits of shape {logits.shape} do not fit targets of shape {targets.shape}; targets are token ids, "
            "one for each row of logits."
        )
    return _token_losses(logits, targets, float(z_loss), float(label_smoothing))


def cross_entropy_with_logits(
    logits: Float[Array, "*batch vocab"],
    targets: Shaped[Array, "..."],
    z_loss: float = 0.0,
) -> tuple[Float[Array, "*batch"], Float[Array, "*batch"]]:
    """T5X's function of this name: (cross-entropy with the z-loss, z-loss alone) of each position.

    Args:
      targets: token ids of shape [*batch], or as in T5X a distribution over tokens of shape [*batch, vocab].
    """
    if targets.ndim == logits.ndim - 1:
        return token_losses(logits, targets, z_loss)
    log_z = jax.nn.logsumexp(logits, axis=-1, keepdims=True)
    cross_entropy = -jnp.sum(targets * (logits - log_z), axis=-1)
    z_losses = z_loss * jnp.square(log_z[..., 0])
    return cross_entropy + z_losses, jax.lax.stop_gradient(z_losses)


def compute_weighted_cross_entropy(
    logits: Float[Array, "batch length vocab"],
    targets: Int[Array, "batch length"],
    weights: Shaped[Array, "batch length"] | None = None,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    loss_normalizing_factor: Shaped[Array, ""] | float | int | None = None,
) -> tuple[Float[Array, ""], Float[Array, ""], Shaped[Array, ""] | int]:
    """(loss, z-loss, weight sum): weighted sums over all positions, the first two divided by the factor if given."""
    losses, z_losses = token_losses(logits, targets, z_loss, label_smoothing)
    weight_sum = int(np.prod(targets.shape))
    if weights is not None:
        losses, z_losses, weight_sum = losses * weights, z_losses * weights, jnp.sum(weights)
    loss, z_loss_sum = jnp.sum(losses), jnp.sum(z_losses)
    if loss_normalizing_factor is not None:
        loss, z_loss_sum = loss / loss_normalizing_factor, z_loss_sum / loss_normalizing_factor
    return loss, z_loss_sum, weight_sum


@enum.unique
class SpecialLossNormalizingFactor(enum.Enum):
    """Loss normalising factors that are taken from the batch.

    Attributes:
      NUM_REAL_TARGET_TOKENS: the sum of the loss weights, or without any the number of target tokens that are not 0.
      NUM_TOTAL_TARGET_TOKENS: batch times length, padding included.
      AVERAGE_PER_SEQUENCE: each sequence (each segment of a packed row) counts the same, whatever its length.
    """

    NUM_REAL_TARGET_TOKENS = 1
    NUM_TOTAL_TARGET_TOKENS = 2
    AVERAGE_PER_SEQUENCE = 3


LossNormalizingFactor = float | int | str | SpecialLossNormalizingFactor | None


def convert_special_loss_normalizing_factor_to_enum(name: str) -> SpecialLossNormalizingFactor:
    """The factor of that name, in any case; gin files write its name as text."""
    try:
        return SpecialLossNormalizingFactor[name.upper()]
    except KeyError as error:
        names = ", ".join(factor.name for factor in SpecialLossNormalizingFactor)
        raise ValueError(
            f"loss_normalizing_factor={name!r}; use a number, None, or one of {names}."
        ) from error


def _weight_sum_of_own_segment(
    segment_ids: Int[Array, "batch length"], weights: Float[Array, "batch length"]
) -> Float[Array, "batch length"]:
    """For each position, the sum of the weights of its own segment of a packed row."""
    same_segment = segment_ids[:, :, None] == segment_ids[:, None, :]  # [batch, length, length]
    same_segment &= (segment_ids != 0)[:, :, None]  # padding is nobody's, whatever its weight
    return jnp.einsum("blm,bm->bl", same_segment.astype(weights.dtype), weights)


def get_loss_normalizing_factor_and_weights(
    loss_normalizing_factor: LossNormalizingFactor, batch: Mapping[str, jax.Array]
) -> tuple[jax.Array | float | int | None, jax.Array | None]:
    """(what the loss is divided by, the weight of each target token), as T5X takes them from a batch.

    Args:
      loss_normalizing_factor: a number or None is handed back as it is, with the batch's `decoder_loss_weights` (None
        where it has none); a special factor or its name is worked out from the batch.
    """
    weights = batch.get("decoder_loss_weights")
    if not isinstance(loss_normalizing_factor, str | SpecialLossNormalizingFactor):
        return loss_normalizing_factor, weights
    if isinstance(loss_normalizing_factor, str):
        loss_normalizing_factor = convert_special_loss_normalizing_factor_to_enum(loss_normalizing_factor)
    targets = batch["decoder_target_tokens"]
    if weights is None:
        weights = (targets > 0).astype(jnp.float32)

    if loss_normalizing_factor is SpecialLossNormalizingFactor.NUM_REAL_TARGET_TOKENS:
        return jnp.sum(weights), weights
    if loss_normalizing_factor is SpecialLossNormalizingFactor.NUM_TOTAL_TARGET_TOKENS:
        return int(np.prod(targets.shape)), weights
    weights = weights.astype(jnp.float32)
    if "decoder_segment_ids" in batch:
        sequence_weights = _weight_sum_of_own_segment(batch["decoder_segment_ids"], weights)
    else:
        sequence_weights = jnp.sum(weights, axis=-1, keepdims=True)
    has_weight = sequence_weights > 0
    weights = jnp.where(has_weight, weights / jnp.where(has_weight, sequence_weights, 1.0), 0.0)
    return jnp.sum(weights), weights
