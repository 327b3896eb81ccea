"""Models: a Flax module with its loss, metrics, prediction and scores, under T5X's names (`t5x.models`)."""

import dataclasses
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
    BaseModel,
    BaseTransformerModel,
    Batch,
    DecodeFnCallable,
    PyTree,
    Vocabulary,
)
from stepdistill_jax.engine.model.decoder_only_model import DecoderOnlyModel, remove_prefix
from stepdistill_jax.engine.model.metrics import (
    compute_base_metrics,
    compute_weighted_accuracy,
    count_packed_examples,
)
from stepdistill_jax.engine.optim import optimizers

__all__ = [
    "BaseModel",
    "BaseTransformerModel",
    "DecoderOnlyModel",
    "DecoderParams",
    "EncoderDecoderModel",
    "compute_base_metrics",
    "compute_weighted_accuracy",
    "count_packed_examples",
    "get_input_vocabulary",
    "get_output_vocabulary",
    "remove_prefix",
]


@dataclasses.dataclass(frozen=True)
class DecoderParams:
    """How `predict_batch` decodes: all decodes of a row or the best one, and how many are searched."""

    return_all_decodes: bool = False
    num_decodes: int = 1


class EncoderDecoderModel(BaseTransformerModel):
    """A T5: an encoder of the inputs and a decoder of the targets."""

    FEATURE_CONVERTER_CLS = LookedUp("seqio", "EncDecFeatureConverter")

    def __init__(
        self,
        module: nn.Module,
        input_vocabulary: Vocabulary,
        output_vocabulary: Vocabulary,
        optimizer_def: optimizers.OptimizerDef,
        decode_fn: DecodeFnCallable = decoding.beam_search,
        feature_converter_cls: Callable[..., Any] | None = None,
        label_smoothing: float = 0.0,
        z_loss: float = 0.0,
        loss_normalizing_factor: losses.LossNormalizingFactor = None,
        default_decoder_params: DecoderParams | None = None,
        loss_block_tokens: int | None = 1024,
    ) -> None:
        """Takes T5X's arguments, and one more.

        Args:
          loss_block_tokens: see `BaseTransformerModel`.
        """
        if feature_converter_cls is not None:
            self.FEATURE_CONVERTER_CLS = feature_converter_cls
        self._default_decoder_params = default_decoder_params or DecoderParams()
        super().__init__(
            module=module,
            input_vocabulary=input_vocabulary,
            output_vocabulary=output_vocabulary,
            optimizer_def=optimizer_def,
            decode_fn=decode_fn,
            label_smoothing=label_smoothing,
            z_loss=z_loss,
            loss_normalizing_factor=loss_normalizing_factor,
            loss_block_tokens=loss_block_tokens,
        )

    def batch_features(self, *, pack: bool) -> Mapping[str, str]:
        """Those of an encoder's inputs and a decoder's targets."""
        of_targets = ("decoder_target_tokens", "decoder_input_tokens", "decoder_loss_weights")
        packing = ("segment_ids", "positions") if pack else ()
        return {
            "encoder_input_tokens": "inputs",
            **dict.fromkeys(of_targets, "targets"),
            **{f"encoder_{name}": "inputs" for name in packing},
            **{f"decoder_{name}": "targets" for name in packing},
        }

    def get_initial_variables(
        self,
        rng: jax.Array,
        input_shapes: Mapping[str, tuple[int, ...]],
        input_types: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """{'params', 'params_axes'} as nested dicts; shapes and types are those of the model's features."""
        input_types = input_types or {}

        def ones(name: str) -> jax.Array | None:
            if name not in input_shapes:
                return None
            return jnp.ones(input_shapes[name], input_types.get(name, jnp.int32))

        init = functools.partial(
            self.module.init,
            rng,
            ones("encoder_input_tokens"),
            ones("decoder_input_tokens"),
            ones("decoder_input_tokens"),
            encoder_segment_ids=ones("encoder_segment_ids"),
            decoder_segment_ids=ones("decoder_segment_ids"),
            encoder_positions=ones("encoder_positions"),
            decoder_positions=ones("decoder_positions"),
            decode=False,
            enable_dropout=False,
        )
        return initializers.drawn_by_shape(init, rng)

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
            batch["encoder_input_tokens"],
            batch["decoder_input_tokens"],
            batch["decoder_target_tokens"],
            encoder_segment_ids=batch.get("encoder_segment_ids"),
            decoder_segment_ids=batch.get("decoder_segment_ids"),
            encoder_positions=batch.get("encoder_positions"),
            decoder_positions=batch.get("decoder_positions"),
            decode=False,
            enable_dropout=dropout_rng is not None,
            rngs=None if dropout_rng is None else {"dropout": dropout_rng},
            mutable=mutable,
            **arguments,
        )

    def _compute_logits_from_slice(
        self,
        decoding_state: decoding.DecodingState,
        params: PyTree,
        encoded_inputs: jax.Array,
        raw_inputs: jax.Array,
        max_decode_length: int,
    ) -> tuple[jax.Array, PyTree]:
        """(logits of the next token [rows, vocab], new cache) from the current token of each row."""
        logits, variables = self.module.apply(
            {"params": params, "cache": decoding_state.cache},
            encoded_inputs,
            raw_inputs,  # only for the padding mask
            decoding_state.cur_token,
            decoding_state.cur_token,
            enable_dropout=False,
            decode=True,
            max_decode_length=max_decode_length,
            mutable=["cache"],
            method=self.module.decode,
        )
        return logits[:, 0, :], variables["cache"]

    def _compute_kv_cache(
        self,
        params: PyTree,
        encoded_inputs: jax.Array,
        encoder_input_tokens: jax.Array,
        decoder_input_tokens: jax.Array,
    ) -> PyTree:
        """A cache as long as the decoder's tokens: its self-attention empty, its cross-attention filled."""
        _, variables = self.module.apply(
            {"params": params},
            encoded_inputs,
            encoder_input_tokens,
            jnp.ones_like(decoder_input_tokens),
            jnp.ones_like(decoder_input_tokens),
            enable_dropout=False,
            decode=True,
            mutable=["cache"],
            method=self.module.decode,
        )
        return variables["cache"]

    def predict_batch_with_aux(
        self,
        params: PyTree,
        batch: Batch,
        rng: jax.Array | None = None,
        decoder_params: MutableMapping[str, Any] | None = None,
        return_all_decodes: bool | None = None,
        num_decodes: int | None = None,
        prompt_with_targets: bool = False,
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Decodes the targets of a batch's inputs with `decode_fn`.

        Args:
          rng: for sampling; handed on as `decode_rng`.
          decoder_params: further arguments of `decode_fn`, such as temperature or alpha; not changed.
          return_all_decodes: all decodes of a row, sorted by increasing score, or only the last, best one.
          num_decodes: beams, or samples, a row.
          prompt_with_targets: forces the batch's decoder tokens (without EOS) before decoding goes on by itself.

        Returns:
          (tokens, {'scores'}): int32 [batch, length] and log-likelihoods [batch], or with `return_all_decodes`
          [batch, num_decodes, length] and [batch, num_decodes]. length is that of the batch's decoder tokens.
        """
        defaults = self._default_decoder_params
        return_all_decodes = defaults.return_all_decodes if return_all_decodes is None else return_all_decodes
        num_decodes = defaults.num_decodes if num_decodes is None else num_decodes
        decode_fn_arguments = self._decode_fn_arguments(rng, decoder_params)
        encoder_input_tokens = batch["encoder_input_tokens"]
        prompt = jnp.zeros_like(batch["decoder_input_tokens"])
        if prompt_with_targets:
            # An EOS in the prompt would end the decoding there.
            decoder_tokens = batch["decoder_input_tokens"]
            prompt = jnp.where(decoder_tokens == self.output_vocabulary.eos_id, 0, decoder_tokens)

        encoded = self.module.apply(
            {"params": params}, encoder_input_tokens, enable_dropout=False, method=self.module.encode
        )
        # Rows are expanded in place, [row 0, row 0, row 1, row 1, ...], as the decode functions lay beams out.
        tokens_to_logits = functools.partial(
            self._compute_logits_from_slice,
            params=params,
            encoded_inputs=decoding.flat_batch_beam_expand(encoded, num_decodes),
            raw_inputs=decoding.flat_batch_beam_expand(encoder_input_tokens, num_decodes),
            max_decode_length=prompt.shape[1],
        )
        decodes, scores = self._decode_fn(
            inputs=prompt,
            cache=self._compute_kv_cache(params, encoded, encoder_input_tokens, prompt),
            tokens_to_logits=tokens_to_logits,
            num_decodes=num_decodes,
            cache_offset=1 if getattr(self.module, "scan_layers", False) else 0,
            **decode_fn_arguments,
        )
        if return_all_decodes:
            return decodes, {"scores": scores}
        return decodes[:, -1, :], {"scores": scores[:, -1]}


def get_input_vocabulary(model: BaseTransformerModel) -> Vocabulary:
    return model.input_vocabulary


def get_output_vocabulary(model: BaseTransformerModel) -> Vocabulary:
    return model.output_vocabulary
