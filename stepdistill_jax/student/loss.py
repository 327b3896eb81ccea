"""The step-by-step loss, Eq. 3 of Hsieh et al. 2023 (arXiv:2305.02301): L = L_label + λ · L_rationale."""

import flax.struct
import jax
import jax.numpy as jnp
from clu import metrics as clu_metrics
from jaxtyping import Array, Float, Int

from stepdistill_jax.datasets import LABEL_TASK_ID, RATIONALE_TASK_ID


def token_cross_entropy(
    logits: Float[Array, "batch length vocab"],
    targets: Int[Array, "batch length"],
    *,
    z_loss: float = 0.0,
) -> Float[Array, "batch length"]:
    """Cross-entropy of each target token in nats: ℓ(f(x), y) of Section 3.2, before averaging.

    Args:
      logits: any float dtype; the softmax runs in float32, as bfloat16 keeps only 8 significant bits.
      targets: token ids in [0, vocab). Values at padded places mean nothing; weigh them with 0.
      z_loss: adds z_loss · log(Z)², T5's regulariser of the softmax normaliser Z (T5X's `Z_LOSS`).
    """
    logits = logits.astype(jnp.float32)
    log_z = jax.nn.logsumexp(logits, axis=-1)  # [batch, length]
    target_logits = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]  # [batch, length]
    return log_z - target_logits + z_loss * jnp.square(log_z)


def task_mask(
    task_ids: Int[Array, "batch length"], loss_weights: Array, task_id: int
) -> Float[Array, "batch length"]:
    """1.0 on the real target tokens of one task, 0.0 elsewhere."""
    return (task_ids == task_id).astype(jnp.float32) * (loss_weights > 0).astype(jnp.float32)


def token_loss_weights(
    task_ids: Int[Array, "batch length"],
    loss_weights: Array,
    *,
    rationale_weight: float,
) -> Float[Array, "batch length"]:
    """What each target token's cross-entropy counts for in Eq. 3: 1/n_label, λ/n_rationale, or 0 on padding.

    Each term of Eq. 3 is a mean over its own task's tokens, so that long rationales do not drown short labels. Written
    as weights, the loss is one sum over tokens: it adds up exactly over devices and microbatches as long as the weights
    are taken from the whole (global) batch. A task without tokens in the batch adds 0, not NaN.

    Args:
      task_ids: LABEL_TASK_ID or RATIONALE_TASK_ID on target tokens, 0 on padding.
      loss_weights: int or float [batch, length], above 0 on real target tokens.
      rationale_weight: λ. With 0, the loss is that of fine-tuning on labels alone.
    """
    label = task_mask(task_ids, loss_weights, LABEL_TASK_ID)
    rationale = task_mask(task_ids, loss_weights, RATIONALE_TASK_ID)
    return label / jnp.maximum(jnp.sum(label), 1.0) + rationale_weight * rationale / jnp.maximum(
        jnp.sum(rationale), 1.0
    )


@flax.struct.dataclass
class StepByStepLoss(clu_metrics.Metric):
    """Eq. 3 over everything merged: each term the mean over all of its task's tokens, not a mean of batches' means.

    Attributes:
      totals: float32 [2], cross-entropies summed over label and rationale tokens.
      counts: float32 [2], these tokens.
      weights: float32 [2], 1 and λ.
    """

    totals: jax.Array
    counts: jax.Array
    weights: jax.Array

    def merge(self, other: "StepByStepLoss") -> "StepByStepLoss":
        return self.replace(totals=self.totals + other.totals, counts=self.counts + other.counts)

    def compute(self) -> jax.Array:
        return jnp.sum(self.weights * self.totals / jnp.maximum(self.counts, 1.0))
