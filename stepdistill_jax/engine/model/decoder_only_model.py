"""T5X's `DecoderOnlyModel`: a language model whose rows are inputs and targets, one behind the other.

    inputs = [9, 4, 6, 1], targets = [3, 9, 1]

    decoder_target_tokens    = [9, 4, 6, 1, 3, 9, 1, 0, 0]
    decoder_input_tokens     = [0, 9, 4, 6, 1, 3, 9, 1, 0]
    decoder_loss_weights     = [0, 0, 0, 0, 1, 1, 1, 0, 0]
    decoder_causal_attention = [1, 1, 1, 1, 1, 0, 0, 0, 0]

The last input token is read where the first target token is predicted, so the inputs reach one place further in what is read.
"""

import functools
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from stepdistill_jax.base.looked_up import LookedUp
from stepdistill_jax.engine.decode import decoding
from stepdistill_jax.engine.model import initializers, losses
from stepdistill_jax.engine.model.base_model import (
    BaseTransformerModel,
    Batch,
    DecodeFnCallable,
    PyTree,
    Vocabulary,
)
from stepdistill_jax.engine.optim import optimizers


class DecoderOnlyModel(BaseTransformerModel):
    """A decoder that reads the inputs and writes the targets; the loss is on targets alone, where there are inputs."""

    FEATURE_CONVERTER_CLS = LookedUp("seqio", "DecoderFeatureConverter")

    def __init__(
        self,
        module: nn.Module,
        vocabulary: Vocabulary,
        optimizer_def: optimizers.OptimizerDef,
        decode_fn: DecodeFnCallable = decoding.temperature_sample,
        inputs_bidirectional_attention: bool = False,
        feature_converter_cls: Callable[..., Any] | None = None,
        label_smoothing: float = 0.0,
        z_loss: float = 0.0,
        loss_normalizing_factor: losses.LossNormalizingFactor = None,
        loss_block_tokens: int | None = 512,
    ) -> None:
        """Takes T5X's arguments, and one more.

        Args:
          vocabulary: of inputs and targets.
          decode_fn: must take `initial_index`: rows go on from inputs of different lengths.
          inputs_bidirectional_attention: whether inputs see each other in both directions (a prefix LM, Raffel et al. 2020).
          loss_block_tokens: see `EncoderDecoderModel`.
        """
        if feature_converter_cls is not None:
            self.FEATURE_CONVERTER_CLS = feature_converter_cls
        self._inputs_bidirectional_attention = inputs_bidirectional_attention
        super().__init__(
            module=module,
            input_vocabulary=vocabulary,
            output_vocabulary=vocabulary,
            optimizer_def=optimizer_def,
            decode_fn=decode_fn,
            label_smoothing=label_smoothing,
            z_loss=z_loss,
            loss_normalizing_factor=loss_normalizing_factor,
            loss_block_tokens=loss_block_tokens,
        )

    @property
    def inputs_bidirectional_attention(self) -> bool:
        return self._inputs_bidirectional_attention

    def batch_features(self, *, pack: bool) -> Mapping[str, tuple[str, ...]]:
        """All as long as inputs and targets together."""
        names = ("target_tokens", "input_tokens", "loss_weights", "causal_attention")
        packing = ("segment_ids", "positions") if pack else ()
        return {f"decoder_{name}": ("inputs", "targets") for name in (*names, *packing)}

    def get_initial_variables(
        self,
        rng: jax.Array,
        input_shapes: Mapping[str, tuple[int, ...]],
        input_types: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """{'params', 'params_axes'} as nested dicts; shapes and types are those of the model's features."""
        kind = (input_types or {}).get("decoder_input_tokens", jnp.float32)
        tokens = jnp.ones(input_shapes["decoder_input_tokens"], kind)
        init = functools.partial(self.module.init, rng, tokens, tokens, enable_dropout=False)
        return initializers.drawn_by_shape(init, rng)

    def _bidirectional(self, causal_attention: jax.Array | None) -> jax.Array | None:
        """`decoder_causal_attention` where the network is to see it."""
        if not self._inputs_bidirectional_attention:
            return None
        if causal_attention is None:
            raise ValueError(
                "inputs_bidirectional_attention=True, but the batch has no 'decoder_causal_attention'; give "
                "task_feature_lengths of both 'inputs' and 'targets'."
            )
        return causal_attention

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
        return self.module.apply(
            {"params": params, **(other_variables or {})},
            batch["decoder_input_tokens"],
            batch["decoder_target_tokens"],
            decoder_segment_ids=batch.get("decoder_segment_ids"),
            decoder_positions=batch.get("decoder_positions"),
            decoder_causal_attention=self._bidirectional(batch.get("decoder_causal_attention")),
            rngs=None if dropout_rng is None else {"dropout": dropout_rng},
            decode=False,
            enable_dropout=dropout_rng is not None,
            mutable=mutable,
            **arguments,
        )

    def _counting_tokens(self, batch: Batch) -> jax.Array:
        """Not those of the inputs, most of a row."""
        counts = batch["loss_weights"] != 0.0
        if "decoder_loss_weights" in batch:  # metrics ask for these, whatever they weigh
            counts |= batch["decoder_loss_weights"] > 0
        return counts

    def _compute_logits_from_slice(
        self, decoding_state: decoding.DecodingState, params: PyTree, max_decode_length: int
    ) -> tuple[jax.Array, PyTree]:
        """(logits of the next token [rows, vocab], new cache) from the current token of each row."""
        logits, variables = self.module.apply(
            {"params": params, "cache": decoding_state.cache},
            decoding_state.cur_token,
            decoding_state.cur_token,
            enable_dropout=False,
            decode=True,
            max_decode_length=max_decode_length,
            mutable=["cache"],
        )
        return logits[:, 0, :], variables["cache"]

    def _compute_kv_cache(
        self, params: PyTree, inputs: jax.Array, causal_attention_mask: jax.Array
    ) -> tuple[PyTree, jax.Array]:
        """(a cache that holds the inputs but the last, where each row goes on: at its last input token).

        Args:
          inputs: int32 [batch, length], as read: 0, the input tokens, then zeros.
          causal_attention_mask: int32 [batch, length], 1 on all that is read of the inputs.
        """
        lengths = jnp.sum(inputs[:, 1:] != 0, axis=-1)
        tokens = jnp.ones_like(inputs)
        _, variables = self.module.apply(
            {"params": params}, tokens, tokens, enable_dropout=False, decode=True, mutable=["cache"]
        )
        _, variables = self.module.apply(
            {"params": params, "cache": variables["cache"]},
            decoder_input_tokens=inputs,
            # Says which places are padding; the tokens themselves have a 0 where they begin.
            decoder_target_tokens=causal_attention_mask,
            decoder_causal_attention=self._bidirectional(causal_attention_mask),
            mutable=["cache"],
            enable_dropout=False,
            prefill=True,
            prefill_lengths=lengths,
        )
        return variables["cache"], lengths

    def predict_batch_with_aux(
        self,
        params: PyTree,
        batch: Batch,
        rng: jax.Array | None = None,
        *,
        return_all_decodes: bool = False,
        num_decodes: int = 1,
        decoder_params: MutableMapping[str, Any] | None = None,
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Decodes the targets of a batch's inputs; what the batch has of targets is not looked at.

        Args:
          rng: for sampling; handed on as `decode_rng`.
          return_all_decodes: all decodes of a row, sorted by increasing score, or only the last, best one.
          num_decodes: samples a row.
          decoder_params: further arguments of `decode_fn`, such as temperature; not changed.

        Returns:
          (tokens, {'scores'}): int32 [batch, length], the targets from the first place on, and log-likelihoods [batch], or
          with `return_all_decodes` [batch, num_decodes, length] and [batch, num_decodes].
        """
        if "decoder_causal_attention" not in batch:
            raise ValueError(
                "The batch has no 'decoder_causal_attention', which tells inputs from targets; give task_feature_lengths "
                "of both 'inputs' and 'targets'."
            )
        arguments = self._decode_fn_arguments(rng, decoder_params)
        inputs = batch["decoder_input_tokens"] * batch["decoder_causal_attention"]
        cache, initial_index = self._compute_kv_cache(params, inputs, batch["decoder_causal_attention"])
        decodes, scores = self._decode_fn(
            inputs=inputs,
            cache=cache,
            tokens_to_logits=functools.partial(
                self._compute_logits_from_slice, params=params, max_decode_length=inputs.shape[1]
            ),
            num_decodes=num_decodes,
            initial_index=initial_index,
            cache_offset=1 if getattr(self.module, "scan_layers", False) else 0,
            **arguments,
        )
        if not return_all_decodes:
            decodes, scores = decodes[:, -1, :], scores[:, -1]
        return remove_prefix(decodes, initial_index), {"scores": scores}


@jax.vmap
def remove_prefix(sequence: jax.Array, prefix_length: jax.Array) -> jax.Array:
    """int32 [batch, …, length] without the first tokens of each row, with as many zeros behind.

    [9, 4, 6, 1, 3, 9, 1, 0, 0] without 4: [3, 9, 1, 0, 0, 0, 0, 0, 0]
    """
    length = sequence.shape[-1]
    moved = jnp.roll(sequence, -prefix_length, axis=-1)
    return jnp.where(jnp.arange(length) < length - prefix_length, moved, 0)
