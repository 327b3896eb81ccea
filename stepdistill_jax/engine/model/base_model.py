"""What the trainer, the evaluator and the inferer ask of a model."""

import abc
import copy
import inspect
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from flax import linen as nn

from stepdistill_jax.engine.model import block_losses, losses
from stepdistill_jax.engine.model import metrics as metrics_lib
from stepdistill_jax.engine.model.metrics import (
    compute_base_metrics,
)
from stepdistill_jax.engine.optim import optimizers

PyTree = Any

Batch = Mapping[str, jax.Array]

MetricsMap = metrics_lib.MetricsMap

# Of a task: one, or several whose tokens lie in one row.
TaskFeatures = str | tuple[str, ...]

DecodeFnCallable = Callable[..., tuple[jax.Array, jax.Array]]


class Vocabulary(Protocol):
    """What a model needs of a vocabulary: SeqIO's have it, and those of `datasets.text_vocabularies`."""

    @property
    def vocab_size(self) -> int: ...

    @property
    def eos_id(self) -> int | None: ...

    def encode(self, s: str, /) -> Sequence[int]: ...

    def decode(self, ids: Iterable[int], /) -> str: ...


class BaseModel(abc.ABC):
    """What the trainer, the evaluator and the inferer ask of a model."""

    FEATURE_CONVERTER_CLS: Callable[..., Any]  # a seqio.FeatureConverter

    def __init__(self, optimizer_def: optimizers.OptimizerDef) -> None:
        self.optimizer_def = optimizer_def

    def batch_features(self, *, pack: bool) -> Mapping[str, TaskFeatures] | None:
        """Feature of a batch -> feature of a task that it is as long as, or several together; int32 [rows, tokens] all.

        It says what `FEATURE_CONVERTER_CLS` makes, without SeqIO. None where a model does not say.
        """
        return None

    def with_loss_weights(self, batch: Batch) -> Batch:
        """The global batch with what its loss needs to know of all rows; here nothing more."""
        return batch

    @abc.abstractmethod
    def loss_fn(
        self, params: PyTree, batch: Batch, dropout_rng: jax.Array | None
    ) -> tuple[jax.Array, MetricsMap]:
        """(loss, metrics) of a batch; no dropout without a `dropout_rng`."""

    def eval_fn(self, params: PyTree, batch: Batch) -> tuple[jax.Array, MetricsMap]:
        """(loss, metrics) without dropout."""
        return self.loss_fn(params, batch, None)

    def predict_batch(self, params: PyTree, batch: Batch, rng: jax.Array | None = None) -> jax.Array:
        """The predictions for a batch."""
        return self.predict_batch_with_aux(params, batch, rng=rng)[0]

    @abc.abstractmethod
    def predict_batch_with_aux(
        self, params: PyTree, batch: Batch, rng: jax.Array | None = None
    ) -> tuple[jax.Array, Mapping[str, jax.Array]]:
        """(predictions, further arrays such as their scores)."""

    @abc.abstractmethod
    def score_batch(self, params: PyTree, batch: Batch, return_intermediates: bool = False) -> jax.Array:
        """The log-likelihood of each row's targets, in nats."""

    @abc.abstractmethod
    def get_initial_variables(
        self,
        rng: jax.Array,
        input_shapes: Mapping[str, tuple[int, ...]],
        input_types: Mapping[str, Any] | None = None,
    ) -> Mapping[str, Any]:
        """New variables for a batch of these shapes: 'params' and 'params_axes'."""


class BaseTransformerModel(BaseModel):
    """A model trained on the cross-entropy of target tokens."""

    def __init__(
        self,
        module: nn.Module,
        input_vocabulary: Vocabulary,
        output_vocabulary: Vocabulary,
        optimizer_def: optimizers.OptimizerDef,
        decode_fn: DecodeFnCallable | None = None,
        label_smoothing: float = 0.0,
        z_loss: float = 0.0,
        loss_normalizing_factor: losses.LossNormalizingFactor = None,
        loss_block_tokens: int | None = None,
    ) -> None:
        """Takes T5X's arguments, and one more.

        Args:
          loss_normalizing_factor: what the summed loss is divided by: a number, None for the sum itself, or the name of
            a `losses.SpecialLossNormalizingFactor`, taken over the global batch.
          loss_block_tokens: target tokens a device makes logits of at once (`block_losses`); None makes all of them. A
            subclass with a `_compute_logits` or `_compute_metrics` of its own gets all logits in any case.
        """
        if loss_block_tokens is not None and loss_block_tokens < 1:
            raise ValueError(f"loss_block_tokens={loss_block_tokens}; use 1 or more, or None.")
        if isinstance(loss_normalizing_factor, str):
            losses.convert_special_loss_normalizing_factor_to_enum(loss_normalizing_factor)
        if isinstance(loss_normalizing_factor, int | float) and loss_normalizing_factor <= 0:
            raise ValueError(
                f"loss_normalizing_factor={loss_normalizing_factor}; the loss is divided by it, use a positive number."
            )
        self.module = module
        self._input_vocabulary = input_vocabulary
        self._output_vocabulary = output_vocabulary
        self._decode_fn = decode_fn
        self._label_smoothing = label_smoothing
        self._z_loss = z_loss
        self._loss_normalizing_factor = loss_normalizing_factor
        self._loss_block_tokens = loss_block_tokens
        super().__init__(optimizer_def=optimizer_def)

    @property
    def input_vocabulary(self) -> Vocabulary:
        return self._input_vocabulary

    @property
    def output_vocabulary(self) -> Vocabulary:
        return self._output_vocabulary

    @property
    def decode_fn(self) -> DecodeFnCallable | None:
        return self._decode_fn

    def _compute_logits(
        self,
        params: PyTree,
        batch: Batch,
        dropout_rng: jax.Array | None = None,
        mutable: Any = False,
        other_variables: PyTree | None = None,
    ) -> Any:
        """Logits of every target token, [batch, length, vocab], and the changed collections if `mutable` names some.

        A decoder-only model's are those of the inputs, too.
        """
        return self._apply_module(
            params, batch, dropout_rng, mutable=mutable, other_variables=other_variables
        )

    def _apply_module(
        self,
        params: PyTree,
        batch: Batch,
        dropout_rng: jax.Array | None,
        *,
        mutable: Any = False,
        other_variables: PyTree | None = None,
        **arguments: Any,
    ) -> Any:
        """What the network gives for a batch, with further arguments of its own."""
        raise NotImplementedError(
            f"{type(self).__name__} has neither _apply_module nor a _compute_logits of its own."
        )

    def with_loss_weights(self, batch: Batch) -> Batch:
        """The batch with `loss_weights`, float32 [batch, length]: weight of each target token's loss / normalising factor.

        To be called on the global batch: the loss is then one weighted sum over tokens, which adds up exactly over
        microbatches and devices. A batch of padding gets weights of 0, where T5X's division would give NaN.
        """
        factor, weights = losses.get_loss_normalizing_factor_and_weights(self._loss_normalizing_factor, batch)
        if weights is None:
            weights = jnp.ones_like(batch["decoder_target_tokens"])
        weights = weights.astype(jnp.float32)
        if factor is not None:
            factor = jnp.asarray(factor, jnp.float32)
            weights = weights / jnp.where(factor == 0.0, 1.0, factor)
        return {**batch, "loss_weights": weights}

    def loss_fn(
        self, params: PyTree, batch: Batch, dropout_rng: jax.Array | None
    ) -> tuple[jax.Array, MetricsMap]:
        """The weighted sum of the target tokens' losses in nats, and T5X's metrics.

        Weights are the batch's `loss_weights` where the trainer has put them in, else worked out from this batch.
        """
        if "loss_weights" not in batch:
            batch = self.with_loss_weights(batch)
        targets = batch["decoder_target_tokens"]
        # The metrics' mask does not depend on other rows: also right when this is a microbatch.
        _, mask = losses.get_loss_normalizing_factor_and_weights(self._loss_normalizing_factor, batch)
        if self._makes_logits_in_blocks():
            loss, tokens = self._loss_in_blocks(params, batch, dropout_rng)
            return loss, compute_base_metrics(
                logits=None,
                targets=targets,
                mask=mask,
                loss=loss,
                z_loss=jnp.sum(tokens.z_losses * batch["loss_weights"]),
                segment_ids=_segment_ids(batch),
                correct=tokens.correct,
            )
        logits = self._compute_logits(params, batch, dropout_rng)  # [batch, length, vocab]
        token_losses, token_z_losses = losses.token_losses(
            logits, targets, self._z_loss, self._label_smoothing
        )
        loss = jnp.sum(token_losses * batch["loss_weights"])
        metrics = self._compute_metrics(
            logits=logits,
            targets=targets,
            mask=mask,
            loss=loss,
            z_loss=jnp.sum(token_z_losses * batch["loss_weights"]),
            segment_ids=_segment_ids(batch),
        )
        return loss, metrics

    def _makes_logits_in_blocks(self) -> bool:
        """Whether the loss is computed without an array of all logits: not where logits or metrics are a subclass's own."""
        own = any(
            getattr(getattr(self, name), "__func__", None) is not getattr(BaseTransformerModel, name)
            for name in ("_compute_logits", "_compute_metrics")
        )
        return self._loss_block_tokens is not None and not own and hasattr(self.module, "output_kernel")

    def _counting_tokens(self, batch: Batch) -> jax.Array | None:
        """bool [batch, length], whose losses loss and metrics are made of; None where it isn't worth a look."""
        return None

    def _loss_in_blocks(
        self, params: PyTree, batch: Batch, dropout_rng: jax.Array | None
    ) -> tuple[jax.Array, block_losses.TokenLosses]:
        """(sum of `loss_weights` times the token losses, the token losses; 0.0 for tokens that do not count)."""
        hidden = self._apply_module(params, batch, dropout_rng, return_hidden=True)
        kernel, scale = self.module.output_kernel(params)
        return block_losses.weighted_token_losses(
            hidden.astype(jnp.float32) * scale,
            kernel,
            batch["decoder_target_tokens"],
            batch["loss_weights"],
            z_loss=self._z_loss,
            label_smoothing=self._label_smoothing,
            block_tokens=self._loss_block_tokens,
            counts=self._counting_tokens(batch),
            dot_dtype=getattr(getattr(self.module, "config", None), "logits_dot_dtype", jnp.float32),
        )

    def _compute_metrics(
        self,
        logits: jax.Array,
        targets: jax.Array,
        mask: jax.Array | None,
        loss: jax.Array,
        z_loss: jax.Array | None = None,
        segment_ids: Mapping[str, jax.Array] | None = None,
    ) -> MetricsMap:
        return compute_base_metrics(
            logits=logits, targets=targets, mask=mask, loss=loss, z_loss=z_loss, segment_ids=segment_ids
        )

    def _decode_fn_arguments(
        self, rng: jax.Array | None, decoder_params: Mapping[str, Any] | None
    ) -> dict[str, Any]:
        arguments = dict(decoder_params or {})
        if rng is not None:
            if arguments.get("decode_rng") is not None:
                raise ValueError(
                    f"two random keys: rng={rng} and decoder_params['decode_rng']={arguments['decode_rng']}; give one."
                )
            arguments["decode_rng"] = rng
        arguments.setdefault("eos_id", self.output_vocabulary.eos_id or 1)
        known = inspect.signature(self._decode_fn).parameters
        takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values())
        for name in arguments:
            if name not in known and not takes_any:
                raise ValueError(
                    f"decoder_params['{name}']: {getattr(self._decode_fn, '__name__', self._decode_fn)} takes no such "
                    f"argument; it takes {', '.join(known)}."
                )
        return arguments

    def score_batch(self, params: PyTree, batch: Batch, return_intermediates: bool = False) -> Any:
        """The log-likelihood of each row's targets in nats, [batch]; z-loss and smoothing play no part.

        With `return_intermediates`, also what the module has sown, and under 'decoder' the target tokens, their loss
        weights and scores, each in a tuple of one, as Flax keeps sown values.
        """
        weights = batch["decoder_loss_weights"]
        targets = batch["decoder_target_tokens"]
        logits = self._compute_logits(
            params, batch, mutable=["intermediates"] if return_intermediates else False
        )
        sown = {}
        if return_intermediates:
            logits, sown = logits
        token_scores = -losses.token_cross_entropy(logits, targets) * weights
        scores = jnp.sum(token_scores, axis=-1)
        if not return_intermediates:
            return scores
        intermediates = dict(sown.get("intermediates", {}))
        intermediates["decoder"] = {
            **intermediates.get("decoder", {}),
            "target_tokens": (targets,),
            "loss_weights": (weights,),
            "token_scores": (token_scores,),
        }
        return scores, intermediates


def _segment_ids(batch: Batch) -> dict[str, jax.Array]:
    """Segment ids of each packed feature; of an unpacked batch, 1 where a token is not padding."""
    suffix = "_segment_ids"
    packed = {name.removesuffix(suffix): ids for name, ids in batch.items() if name.endswith(suffix)}
    if packed:
        return packed
    unpacked = ("encoder_input_tokens", "decoder_target_tokens")
    return {name: (batch[name] != 0).astype(jnp.int32) for name in unpacked if name in batch}


def with_config(model: BaseModel, **changes: Any) -> BaseModel:
    """The model with other settings of its network's config; its parameters are the same."""
    model = copy.copy(model)
    model.module = model.module.clone(config=model.module.config.replace(**changes))
    return model


def described_features(model: BaseModel, *, pack: bool) -> Mapping[str, TaskFeatures] | None:
    """What the model says of its features; None where a feature converter was given that it may know nothing of."""
    owners = {
        name: next((kind for kind in type(model).__mro__ if name in vars(kind)), object)
        for name in ("FEATURE_CONVERTER_CLS", "batch_features")
    }
    if "FEATURE_CONVERTER_CLS" in vars(model) or not issubclass(
        owners["batch_features"], owners["FEATURE_CONVERTER_CLS"]
    ):
        return None
    return model.batch_features(pack=pack)


def feature_names(model: BaseModel) -> Collection[str]:
    """The features of an unpacked batch; SeqIO is imported where only the feature converter knows them."""
    return described_features(model, pack=False) or model.FEATURE_CONVERTER_CLS.MODEL_FEATURES


def parts(of_task: TaskFeatures) -> tuple[str, ...]:
    """The task features that a row is made of."""
    return (of_task,) if isinstance(of_task, str) else of_task
