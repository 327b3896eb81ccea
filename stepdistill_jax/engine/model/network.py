"""The T5 encoder-decoder under T5X's names (`t5x.examples.t5.network`, `scalable_t5.network`) and parameter paths.

v1.0: `mlp_activations=('relu',)`, `logits_via_embedding=True`. v1.1 (and FLAN-T5, mT5, ByT5): `('gelu', 'linear')` and
output weights of their own. umT5: besides, `relpos_bias_in_every_layer=True`.

Parameters always lie layer by layer ('decoder/layers_0/…'), also with `scan_layers`: that is how the step is computed,
not what is learnt, so that every setting reads every checkpoint (`layer_stacks.py`).
"""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int, Shaped

from stepdistill_jax.engine.model import layer_stacks, layers, masks
from stepdistill_jax.engine.model.attention import choice, fused
from stepdistill_jax.engine.model.t5_config import T5Config as T5Config  # T5X's place for it


def _chosen_attention(config: T5Config, mask: fused.Mask) -> str:
    """What computes attention under this mask."""
    return choice.choose(
        config.attention,
        mask,
        dtype=config.dtype,
        head_dim=config.head_dim,
        float32_logits=config.float32_attention_logits,
    )


def _attention(config: T5Config, name: str, implementation: str) -> layers.MultiHeadDotProductAttention:
    return layers.MultiHeadDotProductAttention(
        num_heads=config.num_heads,
        head_dim=config.head_dim,
        dtype=config.dtype,
        dropout_rate=config.dropout_rate,
        float32_logits=config.float32_attention_logits,
        implementation=implementation,
        name=name,
    )


def _relative_biases(config: T5Config) -> layers.RelativePositionBiases:
    return layers.RelativePositionBiases(config.num_heads, dtype=config.dtype, name="relpos_bias")


def _mlp(config: T5Config) -> layers.MlpBlock:
    return layers.MlpBlock(
        intermediate_dim=config.mlp_dim,
        activations=config.mlp_activations,
        dropout_rate=config.dropout_rate,
        dtype=config.dtype,
        name="mlp",
    )


def _residual(hidden: jax.Array) -> jax.Array:
    return layers.with_sharding_constraint(hidden, ("batch", "length", "embed"))


def _dropout(config: T5Config, inputs: jax.Array, deterministic: bool) -> jax.Array:
    """T5's dropout drops a feature at all positions of a row at once."""
    return nn.Dropout(config.dropout_rate, broadcast_dims=(-2,))(inputs, deterministic=deterministic)


class EncoderLayer(nn.Module):
    """Self-attention and feed-forward block, each with pre-norm and residual."""

    config: T5Config
    attention: str = "plain"

    @nn.compact
    def __call__(self, inputs, mask, bias, *, deterministic: bool = False):
        config = self.config
        if config.relpos_bias_in_every_layer:
            bias = _encoder_bias(config, inputs.shape[1], self.attention)
        hidden = layers.LayerNorm(dtype=config.dtype, name="pre_attention_layer_norm")(inputs)
        attention = _attention(config, "attention", self.attention)
        hidden = attention(hidden, hidden, mask, bias, deterministic=deterministic)
        attended = inputs + _dropout(config, hidden, deterministic)
        hidden = layers.LayerNorm(dtype=config.dtype, name="pre_mlp_layer_norm")(attended)
        hidden = _mlp(config)(hidden, deterministic=deterministic)
        return _residual(attended + _dropout(config, hidden, deterministic))


class DecoderLayer(nn.Module):
    """Causal self-attention, attention to the encoded inputs, and feed-forward block."""

    config: T5Config
    attention: str = "plain"
    cross_attention: str = "plain"

    @nn.compact
    def __call__(
        self, inputs, encoded, mask, bias, encoded_mask, *, deterministic: bool = False, cache_index=None
    ):
        config = self.config
        decode = cache_index is not None
        if config.relpos_bias_in_every_layer:
            bias = _decoder_bias(self, config, inputs.shape[1], cache_index, self.attention)
        hidden = layers.LayerNorm(dtype=config.dtype, name="pre_self_attention_layer_norm")(inputs)
        hidden = _attention(config, "self_attention", self.attention)(
            hidden, hidden, mask, bias, decode=decode, cache_index=cache_index, deterministic=deterministic
        )
        attended = inputs + _dropout(config, hidden, deterministic)
        hidden = layers.LayerNorm(dtype=config.dtype, name="pre_cross_attention_layer_norm")(attended)
        hidden = _attention(config, "encoder_decoder_attention", self.cross_attention)(
            hidden, encoded, encoded_mask, decode=decode, deterministic=deterministic
        )
        attended = attended + _dropout(config, hidden, deterministic)
        hidden = layers.LayerNorm(dtype=config.dtype, name="pre_mlp_layer_norm")(attended)
        hidden = _mlp(config)(hidden, deterministic=deterministic)
        return _residual(attended + _dropout(config, hidden, deterministic))


def _encoder_bias(config: T5Config, length: int, attention: str) -> jax.Array:
    by_distance = fused.takes_segments(attention)
    return _relative_biases(config)(length, length, bidirectional=True, by_distance=by_distance)


def _decoder_bias(
    module: nn.Module, config: T5Config, length: int, cache_index: jax.Array | None, attention: str
) -> jax.Array:
    """Biases of the decoder tokens at hand, as `attention` takes them; a decoding step's come from `module`'s cache.

    The call that makes the cache has tokens of the full decoding length; later ones have one token, at `cache_index`.
    """
    relative_biases = _relative_biases(config)
    if cache_index is None:
        by_distance = fused.takes_segments(attention)
        return relative_biases(length, length, bidirectional=False, by_distance=by_distance)
    has_cache = module.has_variable("cache", "cached_bias")
    bias = module.variable(
        "cache", "cached_bias", lambda: relative_biases(length, length, bidirectional=False)
    ).value
    return jax.lax.dynamic_slice_in_dim(bias, cache_index, 1, axis=2) if has_cache else bias


class Encoder(nn.Module):
    """The stack that reads the inputs."""

    config: T5Config
    shared_embedding: nn.Module

    @nn.compact
    def __call__(
        self,
        token_ids: Int[Array, "batch length"],
        mask: Bool[Array, "batch 1 length length"] | masks.SegmentMask,
        *,
        deterministic: bool = False,
    ) -> Float[Array, "batch length embed"]:
        config = self.config
        attention = "plain" if self.is_initializing() else _chosen_attention(config, mask)
        mask = fused.in_its_form(mask, attention)
        bias = None
        if not config.relpos_bias_in_every_layer:
            bias = _encoder_bias(config, token_ids.shape[1], attention)
        hidden = _dropout(config, self.shared_embedding(token_ids), deterministic)
        hidden = layer_stacks.run_layers(
            self,
            functools.partial(EncoderLayer, attention=attention),
            hidden,
            (mask, bias),
            num_layers=config.num_encoder_layers,
            deterministic=deterministic,
        )
        hidden = layers.LayerNorm(dtype=config.dtype, name="encoder_norm")(hidden)
        return nn.Dropout(config.dropout_rate)(hidden, deterministic=deterministic)


class Decoder(nn.Module):
    """The stack that writes the targets, whole rows at once or token by token from a cache.

    The cache holds one 'cache_index' (tokens decoded so far) and one 'cached_bias' [1, heads, length, length] for the
    stack (or each layer), besides the keys and values of its layers.
    """

    config: T5Config
    shared_embedding: nn.Module

    @nn.compact
    def __call__(
        self,
        encoded: Float[Array, "batch inputs_length embed"],
        token_ids: Int[Array, "batch length"],
        mask: Bool[Array, "batch 1 length length"] | masks.SegmentMask | None,
        encoded_mask: Bool[Array, "batch 1 length inputs_length"] | masks.SegmentMask,
        *,
        deterministic: bool = False,
        decode: bool = False,
        max_decode_length: int | None = None,
        return_hidden: bool = False,
    ) -> Float[Array, "batch length vocab"] | Float[Array, "batch length embed"]:
        config = self.config
        length = token_ids.shape[1]
        cache_index = None
        attention = cross_attention = "plain"
        if decode:
            mask, cache_index = self._decoding_step(length, max_decode_length)
        elif not self.is_initializing():
            attention, cross_attention = (_chosen_attention(config, of) for of in (mask, encoded_mask))
        mask, encoded_mask = (
            fused.in_its_form(mask, attention),
            fused.in_its_form(encoded_mask, cross_attention),
        )
        bias = None
        if not config.relpos_bias_in_every_layer:
            bias = _decoder_bias(self, config, length, cache_index, attention)
        hidden = _dropout(config, self.shared_embedding(token_ids), deterministic)
        hidden = layer_stacks.run_layers(
            self,
            functools.partial(DecoderLayer, attention=attention, cross_attention=cross_attention),
            hidden,
            (encoded, mask, bias, encoded_mask),
            num_layers=config.num_decoder_layers,
            deterministic=deterministic,
            cache_index=cache_index,
        )
        hidden = layers.LayerNorm(dtype=config.dtype, name="decoder_norm")(hidden)
        hidden = _dropout(config, hidden, deterministic)
        if return_hidden:
            return hidden
        if config.logits_via_embedding:
            return self.shared_embedding.attend(hidden) / jnp.sqrt(float(config.emb_dim))
        # Output logits are float32 whatever `dtype`: bfloat16 cannot tell near-equal logits of a large vocabulary.
        return layers.DenseGeneral(
            config.vocab_size,
            ("embed", "vocab"),
            dtype=config.logits_dot_dtype,
            sum_dtype=jnp.float32,
            name="logits_dense",
        )(hidden)

    def _decoding_step(self, length: int, max_decode_length: int | None) -> tuple[jax.Array, jax.Array]:
        """(mask, index) of the tokens fed now; makes the stack's cache on the first call.

        The first call (no cache yet) gets tokens of the full decoding length, which sets the cache's size.
        """
        has_cache = self.has_variable("cache", "cache_index")
        index = self.variable("cache", "cache_index", lambda: jnp.zeros((), jnp.int32))
        cache_length = length
        if has_cache:
            cache_length = self.get_variable("cache", "layers_0")["self_attention"]["cached_key"].shape[-1]
        if max_decode_length is not None and max_decode_length != cache_length:
            raise ValueError(
                f"max_decode_length={max_decode_length}, but the cache was made for {cache_length} tokens; make it "
                "from decoder tokens of that length."
            )
        key_positions = jnp.arange(cache_length)[None, None, None, :]
        if not has_cache:
            query_positions = jnp.arange(cache_length)[None, None, :, None]
            return key_positions <= query_positions, index.value
        position = index.value
        index.value = position + 1
        return key_positions <= position, position


class Transformer(nn.Module):
    """T5: `__call__` for teacher forcing, `encode` and `decode` for its halves."""

    config: T5Config

    def setup(self) -> None:
        config = self.config
        self.shared_embedding = layers.Embed(
            config.vocab_size,
            config.emb_dim,
            dtype=config.dtype,
            attend_dtype=config.logits_dot_dtype,
            name="token_embedder",
        )
        self.encoder = Encoder(config, self.shared_embedding)
        self.decoder = Decoder(config, self.shared_embedding)

    def encode(
        self,
        encoder_input_tokens: Shaped[Array, "batch length"],
        encoder_segment_ids: Shaped[Array, "batch length"] | None = None,
        enable_dropout: bool = True,
    ) -> Float[Array, "batch length embed"]:
        """Reads the inputs; a token sees the tokens of its own segment that are not padding (0)."""
        segments = masks.segments(encoder_input_tokens, encoder_segment_ids)
        mask = masks.SegmentMask(segments, segments)
        return self.encoder(encoder_input_tokens.astype(jnp.int32), mask, deterministic=not enable_dropout)

    def decode(
        self,
        encoded: Float[Array, "batch inputs_length embed"],
        encoder_input_tokens: Shaped[Array, "batch inputs_length"],
        decoder_input_tokens: Shaped[Array, "batch length"],
        decoder_target_tokens: Shaped[Array, "batch length"],
        encoder_segment_ids: Shaped[Array, "batch inputs_length"] | None = None,
        decoder_segment_ids: Shaped[Array, "batch length"] | None = None,
        decoder_positions: Shaped[Array, "batch length"] | None = None,
        enable_dropout: bool = True,
        decode: bool = False,
        max_decode_length: int | None = None,
        return_hidden: bool = False,
    ) -> Float[Array, "batch length vocab"] | Float[Array, "batch length embed"]:
        """Logits of the next token, from encoded inputs.

        With `decode=True` and a mutable 'cache': a first call with decoder tokens of the full length makes the cache
        (self-attention empty, cross-attention filled from `encoded`); each further call takes one token a row.

        Args:
          encoder_input_tokens: only says which inputs are padding.
          decoder_target_tokens: only says which targets are padding; ignored when decoding.
          decoder_positions: not used, as T5's positions are relative; packed rows are told apart by segment ids.
          max_decode_length: checked against the cache's length.
          return_hidden: gives what the logits are made of instead, see `output_kernel`.
        """
        del decoder_positions
        if decode and encoder_segment_ids is not None:
            raise ValueError(
                "encoder_segment_ids were given to decode=True, which takes one example a row; convert the features "
                "with pack=False."
            )
        if encoder_segment_ids is not None and decoder_segment_ids is None:
            raise ValueError(
                "encoder_segment_ids were given without decoder_segment_ids; packed rows have both."
            )
        has_target = jnp.ones_like(decoder_target_tokens) if decode else decoder_target_tokens
        of_targets = masks.segments(has_target, decoder_segment_ids)
        mask = None if decode else masks.SegmentMask(of_targets, of_targets, causal=True)
        if encoder_segment_ids is None:
            of_targets = masks.segments(has_target, None)  # all of them look at all inputs
        encoded_mask = masks.SegmentMask(
            of_targets, masks.segments(encoder_input_tokens, encoder_segment_ids)
        )
        return self.decoder(
            encoded,
            decoder_input_tokens.astype(jnp.int32),
            mask,
            encoded_mask,
            deterministic=not enable_dropout,
            decode=decode,
            max_decode_length=max_decode_length,
            return_hidden=return_hidden,
        )

    def __call__(
        self,
        encoder_input_tokens: Shaped[Array, "batch inputs_length"],
        decoder_input_tokens: Shaped[Array, "batch length"],
        decoder_target_tokens: Shaped[Array, "batch length"],
        encoder_segment_ids: Shaped[Array, "batch inputs_length"] | None = None,
        decoder_segment_ids: Shaped[Array, "batch length"] | None = None,
        encoder_positions: Shaped[Array, "batch inputs_length"] | None = None,
        decoder_positions: Shaped[Array, "batch length"] | None = None,
        *,
        enable_dropout: bool = True,
        decode: bool = False,
        return_hidden: bool = False,
    ) -> Float[Array, "batch length vocab"] | Float[Array, "batch length embed"]:
        """Logits of every target token under teacher forcing; the decoder's inputs are the targets shifted right.

        With `return_hidden`, the decoder's last hidden states, for a loss that makes the logits itself, in blocks.
        """
        encoded = self.encode(
            encoder_input_tokens, encoder_segment_ids=encoder_segment_ids, enable_dropout=enable_dropout
        )
        return self.decode(
            encoded,
            encoder_input_tokens,
            decoder_input_tokens,
            decoder_target_tokens,
            encoder_segment_ids=encoder_segment_ids,
            decoder_segment_ids=decoder_segment_ids,
            decoder_positions=decoder_positions,
            enable_dropout=enable_dropout,
            decode=decode,
            return_hidden=return_hidden,
        )

    def output_kernel(self, params: Mapping[str, Any]) -> tuple[Float[Array, "embed vocab"], float]:
        """(kernel, scale): logits are hidden states times the kernel, in the config's `logits_dot_dtype`, times the scale."""
        if self.config.logits_via_embedding:
            return params["token_embedder"]["embedding"].T, self.config.emb_dim**-0.5
        return params["decoder"]["logits_dense"]["kernel"], 1.0
