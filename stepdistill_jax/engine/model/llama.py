"""The decoder-only network of Llama and its relatives: SmolLM2, Llama 3, Qwen 2.5 and 3, Gemma 3. A family is a config.

Called as T5X calls a decoder-only module (`t5x.models.DecoderOnlyModel`): whole rows, or `prefill` of the inputs and then a token
at a time from a cache. Parameters always lie layer by layer ('decoder/layers_0/…'), as a T5's do.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.linen.partitioning import with_sharding_constraint
from jaxtyping import Array, Bool, Float, Int, Shaped

from stepdistill_jax.engine.model import initializers, layer_stacks, layers, llama_layers, masks
from stepdistill_jax.engine.model.attention import choice, fused


@dataclasses.dataclass(frozen=True)
class LlamaConfig:
    """Sizes of a decoder-only network, and what tells its family.

    Attributes:
      dtype: what activations are computed in, a dtype or its name ('bfloat16'); parameters stay float32.
      num_kv_heads: heads of keys and values; each serves num_heads / num_kv_heads query heads.
      mlp_activations: names from flax.linen or 'linear'; ('silu', 'linear') is SwiGLU.
      dropout_rate: of the residual branches. These models are trained without.
      logits_via_embedding: the output layer is the input embedding.
      rope_theta, rope_factor, …: see `llama_layers.rotary_frequencies`.
      attention_bias, query_key_norm: see `llama_layers.GroupedQueryAttention`.
      query_scale: None is head_dim ** -0.5.
      norm_offset, post_norms, embedding_scale: Gemma's: scales are kept minus 1, both branches are normed before they are added
        as well, embeddings are multiplied by sqrt(emb_dim).
      sliding_window: tokens that a local layer looks back, its own included; None: every layer looks at all.
      global_every: with a sliding window, each so many-th layer looks at all.
      local_rope_theta: of local layers.
      remat_policy, scan_layers, attention, logits_dot_in_fp32: as `network.T5Config` has them.
    """

    vocab_size: int
    dtype: Any = jnp.float32
    emb_dim: int = 576
    num_heads: int = 9
    num_kv_heads: int = 3
    num_layers: int = 30
    head_dim: int = 64
    mlp_dim: int = 1536
    mlp_activations: Sequence[Any] = ("silu", "linear")
    dropout_rate: float = 0.0
    logits_via_embedding: bool = True
    norm_epsilon: float = 1e-5
    rope_theta: float = 10_000.0
    rope_factor: float = 1.0
    rope_low_frequency_factor: float | None = None
    rope_high_frequency_factor: float | None = None
    rope_original_length: int | None = None
    attention_bias: bool = False
    query_key_norm: bool = False
    query_scale: float | None = None
    norm_offset: float = 0.0
    post_norms: bool = False
    embedding_scale: bool = False
    sliding_window: int | None = None
    global_every: int = 6
    local_rope_theta: float = 10_000.0
    remat_policy: str | None = None
    scan_layers: bool | None = None
    attention: str = "auto"
    logits_dot_in_fp32: bool = True

    def __post_init__(self) -> None:
        sizes = ("vocab_size", "emb_dim", "num_heads", "num_kv_heads", "num_layers", "head_dim", "mlp_dim")
        for name in (*sizes, "global_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"LlamaConfig.{name}={getattr(self, name)}; it must be at least 1.")
        if self.num_heads % self.num_kv_heads:
            raise ValueError(
                f"LlamaConfig.num_heads={self.num_heads} is no multiple of num_kv_heads={self.num_kv_heads}."
            )
        if self.head_dim % 2:
            raise ValueError(f"LlamaConfig.head_dim={self.head_dim} is odd; rotary positions turn pairs.")
        if not 0.0 <= self.dropout_rate < 1.0:
            raise ValueError(f"LlamaConfig.dropout_rate={self.dropout_rate}; it must lie in [0, 1).")
        if isinstance(self.mlp_activations, str) or not self.mlp_activations:
            raise ValueError(
                f"LlamaConfig.mlp_activations={self.mlp_activations!r}; give a tuple of names, as ('silu', 'linear')."
            )
        for activation in self.mlp_activations:
            layers.activation_function(activation)
        try:
            jnp.dtype(self.dtype)
        except TypeError as error:
            raise ValueError(
                f"LlamaConfig.dtype={self.dtype!r} is no dtype; use 'float32' or 'bfloat16'."
            ) from error
        layer_stacks.check_remat_policy(self.remat_policy)
        choice.check_attention(self.attention, dtype=self.dtype, head_dim=self.head_dim)
        object.__setattr__(self, "mlp_activations", tuple(self.mlp_activations))

    @property
    def logits_dot_dtype(self) -> Any:
        """Of both factors of the product that gives logits."""
        return jnp.float32 if self.logits_dot_in_fp32 else self.dtype

    def replace(self, **changes: Any) -> "LlamaConfig":
        return dataclasses.replace(self, **changes)


def _norm(config: LlamaConfig, name: str) -> layers.LayerNorm:
    return layers.LayerNorm(config.norm_epsilon, config.dtype, scale_offset=config.norm_offset, name=name)


def _dropout(config: LlamaConfig, inputs: jax.Array, deterministic: bool) -> jax.Array:
    return nn.Dropout(config.dropout_rate, broadcast_dims=(-2,))(inputs, deterministic=deterministic)


class DecoderLayer(nn.Module):
    """Causal self-attention and feed-forward block, each with pre-norm and residual (Gemma 3: norms behind them, too)."""

    config: LlamaConfig
    attention: str = "plain"
    causal: bool = False
    prefill: bool = False

    @nn.compact
    def __call__(self, inputs, mask, turn, *, deterministic: bool = False, cache_index=None):
        config = self.config
        attention = llama_layers.GroupedQueryAttention(
            num_heads=config.num_heads,
            num_kv_heads=config.num_kv_heads,
            head_dim=config.head_dim,
            query_scale=config.head_dim**-0.5 if config.query_scale is None else config.query_scale,
            dtype=config.dtype,
            use_bias=config.attention_bias,
            query_key_norm=config.query_key_norm,
            norm_epsilon=config.norm_epsilon,
            norm_offset=config.norm_offset,
            implementation=self.attention,
            name="self_attention",
        )
        hidden = _norm(config, "pre_self_attention_layer_norm")(inputs)
        hidden = attention(
            hidden, mask, turn, causal=self.causal, cache_index=cache_index, prefill=self.prefill
        )
        if config.post_norms:
            hidden = _norm(config, "post_self_attention_layer_norm")(hidden)
        attended = inputs + _dropout(config, hidden, deterministic)
        hidden = _norm(config, "pre_mlp_layer_norm")(attended)
        hidden = layers.MlpBlock(
            intermediate_dim=config.mlp_dim,
            activations=config.mlp_activations,
            dropout_rate=0.0,
            dtype=config.dtype,
            name="mlp",
        )(hidden, deterministic=deterministic)
        if config.post_norms:
            hidden = _norm(config, "post_mlp_layer_norm")(hidden)
        hidden = attended + _dropout(config, hidden, deterministic)
        return with_sharding_constraint(hidden, ("batch", "length", "embed"))


class Decoder(nn.Module):
    """The stack: whole rows at once, or token by token from a cache.

    The cache holds one 'cache_index', int32 [batch]: the tokens that each row has in the caches of its layers.
    """

    config: LlamaConfig
    shared_embedding: nn.Module

    @nn.compact
    def __call__(
        self,
        token_ids: Int[Array, "batch length"],
        positions: Int[Array, "batch length"] | None,
        mask: Bool[Array, "batch 1 length length"] | masks.SegmentMask | None,
        *,
        causal: bool = False,
        deterministic: bool = False,
        decode: bool = False,
        prefill: bool = False,
        prefill_lengths: Int[Array, " batch"] | None = None,
        max_decode_length: int | None = None,
        return_hidden: bool = False,
    ) -> Float[Array, "batch length vocab"] | Float[Array, "batch length embed"]:
        config = self.config
        cache_index = None
        if decode or prefill:
            cache_index = self._cache_index(token_ids, prefill_lengths)
        if decode:
            positions, mask = self._decoding_step(token_ids.shape[1], cache_index, max_decode_length)
        elif positions is None:
            positions = jnp.broadcast_to(jnp.arange(token_ids.shape[1]), token_ids.shape)
        if config.sliding_window is not None:  # local layers have a mask of their own
            mask = fused.in_its_form(mask, "plain")
        attention = "plain"
        if not (decode or self.is_initializing()):
            attention = choice.choose(config.attention, mask, dtype=config.dtype, head_dim=config.head_dim)
        mask = fused.in_its_form(mask, attention)
        hidden = self.shared_embedding(token_ids)
        if config.embedding_scale:
            hidden *= jnp.asarray(config.emb_dim**0.5, config.dtype)
        hidden = layer_stacks.run_layers(
            self,
            functools.partial(DecoderLayer, attention=attention, causal=causal, prefill=prefill),
            hidden,
            _inputs_of_layers(config, positions, mask),
            num_layers=config.num_layers,
            deterministic=deterministic,
            cache_index=cache_index,
            select=functools.partial(_of_layer, config),
        )
        hidden = _norm(config, "decoder_norm")(hidden)
        if return_hidden:
            return hidden
        if config.logits_via_embedding:
            return self.shared_embedding.attend(hidden)
        # Output logits are float32 whatever `dtype`: bfloat16 cannot tell near-equal logits of a large vocabulary.
        return layers.DenseGeneral(
            config.vocab_size,
            ("embed", "vocab"),
            dtype=config.logits_dot_dtype,
            sum_dtype=jnp.float32,
            name="logits_dense",
        )(hidden)

    def _cache_index(
        self, token_ids: jax.Array, prefill_lengths: Int[Array, " batch"] | None
    ) -> Int[Array, " batch"]:
        """Where each row goes on; the cache then counts the tokens at hand, too."""
        has_cache = self.has_variable("cache", "cache_index")
        index = self.variable("cache", "cache_index", lambda: jnp.zeros(token_ids.shape[0], jnp.int32))
        here = index.value
        if prefill_lengths is not None:
            index.value = prefill_lengths.astype(jnp.int32)
        elif has_cache:
            index.value = here + 1
        return here

    def _decoding_step(
        self, length: int, cache_index: Int[Array, " batch"], max_decode_length: int | None
    ) -> tuple[Int[Array, "batch queries"], Bool[Array, "batch 1 queries keys"]]:
        """(positions, mask) of the tokens fed now. The first call, of tokens of the full length, makes the cache."""
        is_made = self.has_variable("cache", "layers_0")
        cached = self.get_variable("cache", "layers_0")["self_attention"]["cached_key"] if is_made else None
        cache_length = length if cached is None else cached.shape[2]
        if max_decode_length is not None and max_decode_length != cache_length:
            raise ValueError(
                f"max_decode_length={max_decode_length}, but the cache was made for {cache_length} tokens; make it "
                "from decoder tokens of that length."
            )
        positions = cache_index[:, None] + jnp.arange(length)[None]
        return positions, masks.make_attention_mask(
            positions,
            jnp.broadcast_to(jnp.arange(cache_length), (len(cache_index), cache_length)),
            jnp.greater_equal,
        )


def _inputs_of_layers(
    config: LlamaConfig, positions: Int[Array, "batch queries"], mask: Bool[Array, "batch 1 queries keys"]
) -> (
    tuple[jax.Array, llama_layers.Rotation]
    | tuple[jax.Array, llama_layers.Rotation, jax.Array, llama_layers.Rotation]
):
    """(mask, rotation) of layers that look at all tokens and, with a sliding window, behind them those of local layers."""
    everywhere = mask, llama_layers.rotation(positions, rotary_frequencies(config))
    if config.sliding_window is None:
        return everywhere
    # In a cache keys lie where their tokens stand; else they are those of the queries, and other segments are masked anyway.
    num_queries, num_keys = mask.shape[2:]
    key_positions = positions if num_queries == num_keys else jnp.arange(num_keys)[None]
    distance = positions[:, None, :, None] - key_positions[:, None, None, :]
    frequencies = llama_layers.rotary_frequencies(config.head_dim, theta=config.local_rope_theta)
    return (
        *everywhere,
        mask & (distance < config.sliding_window),
        llama_layers.rotation(positions, frequencies),
    )


def _of_layer(config: LlamaConfig, layer: int | jax.Array, inputs: Sequence[Any]) -> Sequence[Any]:
    """What a layer gets of `_inputs_of_layers`."""
    if config.sliding_window is None:
        return inputs
    everywhere, local = inputs[:2], inputs[2:]
    is_global = (layer + 1) % config.global_every == 0
    if isinstance(layer, int):
        return everywhere if is_global else local
    return jax.tree.map(functools.partial(jnp.where, is_global), tuple(everywhere), tuple(local))


def rotary_frequencies(config: LlamaConfig) -> Any:
    """Of the layers that look at all tokens: float32 [head_dim / 2]."""
    return llama_layers.rotary_frequencies(
        config.head_dim,
        theta=config.rope_theta,
        factor=config.rope_factor,
        low_frequency_factor=config.rope_low_frequency_factor,
        high_frequency_factor=config.rope_high_frequency_factor,
        original_length=config.rope_original_length,
    )


class Llama(nn.Module):
    """A decoder-only network, called as T5X calls one."""

    config: LlamaConfig

    def setup(self) -> None:
        config = self.config
        self.shared_embedding = layers.Embed(
            config.vocab_size,
            config.emb_dim,
            dtype=config.dtype,
            attend_dtype=config.logits_dot_dtype,
            embedding_init=initializers.small_normal,
            name="token_embedder",
        )
        self.decoder = Decoder(config, self.shared_embedding)

    def __call__(
        self,
        decoder_input_tokens: Shaped[Array, "batch length"],
        decoder_target_tokens: Shaped[Array, "batch length"],
        decoder_segment_ids: Shaped[Array, "batch length"] | None = None,
        decoder_positions: Shaped[Array, "batch length"] | None = None,
        decoder_causal_attention: Shaped[Array, "batch length"] | None = None,
        *,
        enable_dropout: bool = True,
        decode: bool = False,
        max_decode_length: int | None = None,
        prefill: bool = False,
        prefill_lengths: Int[Array, " batch"] | None = None,
        attention_mask: Bool[Array, "batch 1 length length"] | None = None,
        return_hidden: bool = False,
    ) -> Float[Array, "batch length vocab"] | Float[Array, "batch length embed"]:
        """Logits of the token behind each input token.

        With `decode=True` and a mutable 'cache': a first call with tokens of the full length makes the cache, empty; each
        further call takes one token a row. `prefill=True` fills a cache that was made so with whole rows, of
        `prefill_lengths` tokens each, from where decoding goes on.

        Args:
          decoder_input_tokens: 0, then the tokens, shifted by one place.
          decoder_target_tokens: only says which places are padding (0); ignored when decoding.
          decoder_segment_ids, decoder_positions: of packed rows.
          decoder_causal_attention: 1 on inputs that see each other in both directions; None: all attention is causal.
          max_decode_length: checked against the cache's length.
          attention_mask: which place may look at which, in place of what targets, segments and causal attention say of it.
          return_hidden: gives what the logits are made of instead, see `output_kernel`.
        """
        mask, causal = attention_mask, False
        if mask is None and not decode:
            causal = decoder_causal_attention is None
            mask = self._own_mask(decoder_target_tokens, decoder_segment_ids, decoder_causal_attention)
        return self.decoder(
            decoder_input_tokens.astype(jnp.int32),
            decoder_positions,
            mask,
            causal=causal,
            deterministic=not enable_dropout,
            decode=decode,
            prefill=prefill,
            prefill_lengths=prefill_lengths,
            max_decode_length=max_decode_length,
            return_hidden=return_hidden,
        )

    def _own_mask(
        self, target_tokens: jax.Array, segment_ids: jax.Array | None, causal_attention: jax.Array | None
    ) -> Bool[Array, "batch 1 length length"] | masks.SegmentMask:
        """Who looks at whom where nobody says it: in a row's own segment at what came before, and at all inputs if told so."""
        if causal_attention is None:
            segments = masks.segments(target_tokens, segment_ids)
            return masks.SegmentMask(segments, segments, causal=True)
        return masks.make_decoder_mask(target_tokens.astype(jnp.int32), segment_ids, causal_attention)

    def output_kernel(self, params: Mapping[str, Any]) -> tuple[Float[Array, "embed vocab"], float]:
        """(kernel, scale): logits are hidden states times the kernel, in the config's `logits_dot_dtype`, times the scale."""
        if self.config.logits_via_embedding:
            return params["token_embedder"]["embedding"].T, 1.0
        return params["decoder"]["logits_dense"]["kernel"], 1.0
