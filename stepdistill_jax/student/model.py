"""The student: a T5 or a language model that learns labels and rationales as two tasks told apart by a prefix."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from clu import metrics as clu_metrics
from t5x import metrics as metrics_lib
from t5x import models

from stepdistill_jax.base.looked_up import LookedUp
from stepdistill_jax.datasets import LABEL_TASK_ID, RATIONALE_TASK_ID
from stepdistill_jax.student.loss import StepByStepLoss, task_mask, token_cross_entropy, token_loss_weights

Batch = Mapping[str, jax.Array]


class StepByStepLearning:
    """The loss L_label + λ · L_rationale (Hsieh et al. 2023, Eq. 3) of a T5X model; stands before it among a class's bases.

    Which target tokens are learnt is all in the batch: `decoder_task_ids` and `decoder_loss_weights`. Fine-tuning is the same
    model on a mixture without rationales: its loss is then the mean cross-entropy of a label token, exactly.
    """

    def __init__(self, *args: Any, rationale_weight: float = 1.0, **kwargs: Any) -> None:
        """Takes the arguments of the T5X model, and λ.

        Args:
          rationale_weight: λ of Eq. 3, at least 0. The paper uses 1; the authors' code takes α and 1 - α for the two
            terms, which is λ = (1 - α)/α up to scale.

        Raises:
          ValueError: for a negative λ, or for label smoothing or a loss normalising factor, which Eq. 3 has not.
        """
        super().__init__(*args, **kwargs)
        if rationale_weight < 0:
            raise ValueError(f"rationale_weight={rationale_weight} (λ of Eq. 3) is negative; use 0 or more.")
        if self._label_smoothing or self._loss_normalizing_factor is not None:
            raise ValueError(
                f"{type(self).__name__} got label_smoothing={self._label_smoothing} and loss_normalizing_factor="
                f"{self._loss_normalizing_factor}; Eq. 3 averages over each task's tokens: leave both at 0.0 and None."
            )
        self._rationale_weight = rationale_weight

    def with_loss_weights(self, batch: Batch) -> Batch:
        """Returns the batch with `loss_weights`, float32 [batch, length], taken over all of its rows.

        The engine's trainer calls this on the global batch, before it slices microbatches.
        """
        weights = token_loss_weights(
            batch["decoder_task_ids"],
            batch["decoder_loss_weights"],
            rationale_weight=self._rationale_weight,
        )
        return {**batch, "loss_weights": weights}

    def loss_fn(
        self, params: Any, batch: Batch, dropout_rng: jax.Array | None
    ) -> tuple[jax.Array, Mapping[str, clu_metrics.Metric]]:
        """Eq. 3 on a batch, in nats, and the metrics that show its two terms apart.

        Returns:
          (loss, metrics): a float32 scalar; `label_loss` and `rationale_loss` are means over the task's tokens without
          z-loss, `label_accuracy` and `rationale_accuracy` the share of tokens predicted right under teacher forcing.
        """
        loss, metrics, _ = self._loss_and_metrics(params, batch, dropout_rng)
        return loss, metrics

    def eval_fn(self, params: Any, batch: Batch) -> tuple[jax.Array, Mapping[str, clu_metrics.Metric]]:
        """As `loss_fn` without dropout; the metric `loss` merges to Eq. 3 over all batches' tokens."""
        loss, metrics, merged_loss = self._loss_and_metrics(params, batch, None)
        return loss, {**metrics, "loss": merged_loss}

    def _loss_and_metrics(
        self, params: Any, batch: Batch, dropout_rng: jax.Array | None
    ) -> tuple[jax.Array, dict[str, clu_metrics.Metric], StepByStepLoss]:
        batch = batch if "loss_weights" in batch else self.with_loss_weights(batch)
        loss, regularised, nll, correct = self._loss_and_tokens(params, batch, dropout_rng)
        metrics: dict[str, clu_metrics.Metric] = {"loss": metrics_lib.AveragePerStep(total=loss, steps=1)}
        totals, counts = [], []
        for name, task_id in (("label", LABEL_TASK_ID), ("rationale", RATIONALE_TASK_ID)):
            mask = task_mask(batch["decoder_task_ids"], batch["decoder_loss_weights"], task_id)
            token_count = jnp.sum(mask)
            metrics[f"{name}_loss"] = clu_metrics.Average(total=jnp.sum(nll * mask), count=token_count)
            metrics[f"{name}_accuracy"] = clu_metrics.Average(
                total=jnp.sum(correct * mask), count=token_count
            )
            metrics[f"{name}_tokens"] = metrics_lib.Sum(total=token_count)
            totals.append(jnp.sum(regularised * mask))
            counts.append(token_count)
        weights = jnp.array([1.0, self._rationale_weight])
        return loss, metrics, StepByStepLoss(jnp.stack(totals), jnp.stack(counts), weights)

    def _loss_and_tokens(
        self, params: Any, batch: Batch, dropout_rng: jax.Array | None
    ) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
        """(loss, cross-entropy of each target token with z-loss and without, 1.0 where it is predicted right)."""
        # Our engine makes the logits in blocks, so that they need no memory to speak of; T5X makes them all.
        in_blocks = getattr(self, "_makes_logits_in_blocks", None)
        if in_blocks is not None and in_blocks():
            loss, tokens = self._loss_in_blocks(params, batch, dropout_rng)
            return loss, tokens.losses, tokens.losses - tokens.z_losses, tokens.correct.astype(jnp.float32)
        logits = self._compute_logits(params, batch, dropout_rng)  # [batch, length, vocab]
        targets = batch["decoder_target_tokens"]
        nll = token_cross_entropy(logits, targets)  # [batch, length]
        regularised = token_cross_entropy(logits, targets, z_loss=self._z_loss) if self._z_loss else nll
        correct = (jnp.argmax(logits, axis=-1) == targets).astype(jnp.float32)
        return jnp.sum(regularised * batch["loss_weights"]), regularised, nll, correct


# Each class below has a `predict_batch_with_aux` of its own, as gin refuses to register a class after its parent's method.


class StepByStepModel(StepByStepLearning, models.EncoderDecoderModel):
    """T5X's `EncoderDecoderModel` that learns by Eq. 3; takes its arguments, and `rationale_weight` (λ)."""

    FEATURE_CONVERTER_CLS = LookedUp("stepdistill_jax.student.features", "StepByStepFeatureConverter")

    def predict_batch_with_aux(self, *args: Any, **kwargs: Any) -> Any:
        """Decodes as T5X's model does."""
        return super().predict_batch_with_aux(*args, **kwargs)

    def batch_features(self, *, pack: bool) -> Mapping[str, str]:
        """Those of our engine's `EncoderDecoderModel`, and the task of every target token."""
        return {**super().batch_features(pack=pack), "decoder_task_ids": "task_ids"}


class StepByStepDecoderModel(StepByStepLearning, models.DecoderOnlyModel):
    """T5X's `DecoderOnlyModel` that learns by Eq. 3; takes its arguments, and `rationale_weight` (λ)."""

    FEATURE_CONVERTER_CLS = LookedUp("stepdistill_jax.student.features", "StepByStepDecoderFeatureConverter")

    def predict_batch_with_aux(self, *args: Any, **kwargs: Any) -> Any:
        """Decodes as T5X's model does."""
        return super().predict_batch_with_aux(*args, **kwargs)

    def batch_features(self, *, pack: bool) -> Mapping[str, tuple[str, ...]]:
        """Those of our engine's `DecoderOnlyModel`, and the task of every token; inputs have none."""
        return {**super().batch_features(pack=pack), "decoder_task_ids": ("inputs", "task_ids")}
