"""T5's building blocks in Flax: projections, attention with its caches, relative position biases, norms and masks.

Parameter names, shapes, initialisers and logical axes are T5X's (`t5x.examples.t5.layers`), so that its checkpoints
load; the code is ours. Parameters are float32; each module computes in its `dtype`, softmax and norms in float32.
"""

import functools
import operator
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.linen.partitioning import param_with_axes, with_sharding_constraint
from jaxtyping import Array, Float, Int

from stepdistill_jax.engine.model import initializers
from stepdistill_jax.engine.model.attention import fused, plain
from stepdistill_jax.engine.model.attention.plain import (
    dot_product_attention as dot_product_attention,  # T5X's place for it
)
from stepdistill_jax.engine.model.initializers import Initializer
from stepdistill_jax.engine.model.masks import (
    make_attention_mask as make_attention_mask,
)  # T5X's place for both
from stepdistill_jax.engine.model.masks import make_decoder_mask as make_decoder_mask

DType = Any  # 'bfloat16' from gin, or a dtype


class DenseGeneral(nn.Module):
    """A linear map over the last `num_input_axes` axes, without bias unless asked for; its kernel is kept as a matrix.

    Attributes:
      features: sizes of the output axes; (heads, kv) gives [..., heads, kv] from one [embed, heads * kv] kernel.
      kernel_axes: logical names of the kernel's two axes.
      dtype: of both factors of the product.
      sum_dtype: of its sums, and the result; None: `dtype`.
    """

    features: int | tuple[int, ...]
    kernel_axes: tuple[str, str]
    num_input_axes: int = 1
    dtype: DType = jnp.float32
    sum_dtype: DType | None = None
    kernel_init: Initializer = initializers.fan_in_truncated_normal
    use_bias: bool = False

    @nn.compact
    def __call__(self, inputs: Float[Array, "..."]) -> Float[Array, "..."]:
        features = (self.features,) if isinstance(self.features, int) else tuple(self.features)
        input_shape = inputs.shape[-self.num_input_axes :]
        kernel = param_with_axes(
            "kernel",
            self.kernel_init,
            (int(np.prod(input_shape)), int(np.prod(features))),
            jnp.float32,
            axes=self.kernel_axes,
        )
        # Rows of tokens times a matrix: with more axes, XLA's CPU backend copies what the kernel's gradient is made of.
        rows = inputs.astype(self.dtype).reshape(-1, kernel.shape[0])
        outputs = jnp.dot(rows, kernel.astype(self.dtype), preferred_element_type=self.sum_dtype)
        if self.use_bias:
            shape, axes = kernel.shape[1:], self.kernel_axes[1:]
            bias = param_with_axes("bias", nn.initializers.zeros, shape, jnp.float32, axes=axes)
            outputs += bias.astype(outputs.dtype)[None]
        return outputs.reshape(*inputs.shape[: -self.num_input_axes], *features)


class LayerNorm(nn.Module):
    """T5's norm: scales by 1/RMS, without subtracting a mean and without bias. The RMS is taken in float32.

    Attributes:
      scale_offset: what is added to the scale that is kept (Gemma keeps scales minus 1).
      axis: logical name of the axis that is normed.
    """

    epsilon: float = 1e-6
    dtype: DType = jnp.float32
    scale_offset: float = 0.0
    axis: str = "embed"

    @nn.compact
    def __call__(self, inputs: Float[Array, "*batch embed"]) -> Float[Array, "*batch embed"]:
        inputs = inputs.astype(jnp.float32)
        mean_square = jnp.mean(jnp.square(inputs), axis=-1, keepdims=True)
        normed = (inputs * jax.lax.rsqrt(mean_square + self.epsilon)).astype(self.dtype)
        first = nn.initializers.constant(1.0 - self.scale_offset)
        scale = param_with_axes("scale", first, (inputs.shape[-1],), jnp.float32, axes=(self.axis,))
        if self.scale_offset:
            scale = scale + self.scale_offset  # a new array: parameters may be NumPy's
        return normed * scale.astype(self.dtype).reshape((1,) * (normed.ndim - 1) + (-1,))


class Embed(nn.Module):
    """Token embeddings, looked up by gather: no one-hot of the vocabulary is made.

    Attributes:
      attend_dtype: of both factors of `attend`'s product; its sums, T5's tied logits, are float32 whatever the rest computes in.
    """

    num_embeddings: int
    features: int
    dtype: DType = jnp.float32
    attend_dtype: DType = jnp.float32
    embedding_init: Initializer = initializers.unit_normal

    def setup(self) -> None:
        self.embedding = param_with_axes(
            "embedding",
            self.embedding_init,
            (self.num_embeddings, self.features),
            jnp.float32,
            axes=("vocab", "embed"),
        )

    def __call__(self, token_ids: Int[Array, "batch length"]) -> Float[Array, "batch length embed"]:
        vectors = jnp.take(self.embedding, token_ids, axis=0, mode="clip").astype(self.dtype)
        return with_sharding_constraint(vectors, ("batch", "length", "embed"))

    def attend(self, inputs: Float[Array, "batch length embed"]) -> Float[Array, "batch length vocab"]:
        """Inner products with every embedding: logits that share the input embedding's weights."""
        embedding = self.embedding.astype(self.attend_dtype)
        return jnp.dot(inputs.astype(self.attend_dtype), embedding.T, preferred_element_type=jnp.float32)


def activation_function(name: str | Callable) -> Callable[[jax.Array], jax.Array]:
    """The function that T5X calls `name`: 'linear', or a function of flax.linen such as 'relu' or 'gelu'."""
    if name == "linear":
        return lambda inputs: inputs
    function = name if callable(name) else getattr(nn, str(name), None)
    if not callable(function):
        raise ValueError(
            f"mlp_activations: unknown {name!r}; use 'linear' or a flax.linen activation such as 'gelu'."
        )
    return function


class MlpBlock(nn.Module):
    """T5's feed-forward block: one activation is v1.0's (`wi`), two are v1.1's gated unit (`wi_0` times `wi_1`)."""

    intermediate_dim: int = 2048
    activations: Sequence[str | Callable] = ("relu",)
    dropout_rate: float = 0.1
    dtype: DType = jnp.float32

    @nn.compact
    def __call__(
        self, inputs: Float[Array, "batch length embed"], *, deterministic: bool = False
    ) -> Float[Array, "batch length embed"]:
        names = ["wi"] if len(self.activations) == 1 else [f"wi_{i}" for i in range(len(self.activations))]
        branches = [
            activation_function(activation)(
                DenseGeneral(self.intermediate_dim, ("embed", "mlp"), dtype=self.dtype, name=name)(inputs)
            )
            for name, activation in zip(names, self.activations, strict=True)
        ]
        hidden = functools.reduce(operator.mul, branches)  # [batch, length, mlp]
        hidden = nn.Dropout(self.dropout_rate, broadcast_dims=(-2,))(hidden, deterministic=deterministic)
        hidden = with_sharding_constraint(hidden, ("batch", "length", "mlp"))
        return DenseGeneral(inputs.shape[-1], ("mlp", "embed"), dtype=self.dtype, name="wo")(hidden)


class MultiHeadDotProductAttention(nn.Module):
    """Multi-head attention with two kinds of cache for decoding.

    Self-attention (`decode=True`, `cache_index` given) keeps the keys and values of the tokens so far in 'cached_key'
    [batch, heads, kv, length] and 'cached_value' [batch, heads, length, kv], which no step has to transpose.
    Cross-attention (`decode=True`, no `cache_index`) projects the encoded inputs once, when the cache is made, and keeps
    them likewise in 'encoded_key', 'encoded_value'; T5X projects them again at every token. What looks into a cache is 'plain'.

    Attributes:
      implementation: what computes attention without a cache (`attention.fused`); mask and bias come in its form.
    """

    num_heads: int
    head_dim: int
    dtype: DType = jnp.float32
    dropout_rate: float = 0.0
    float32_logits: bool = False
    implementation: str = "plain"

    def _project(
        self, name: str, inputs: jax.Array, kernel_init: Initializer = initializers.fan_in_normal
    ) -> jax.Array:
        heads = DenseGeneral(
            (self.num_heads, self.head_dim),
            ("embed", "joined_kv"),
            dtype=self.dtype,
            kernel_init=kernel_init,
            name=name,
        )(inputs)  # [batch, length, heads, kv]
        return with_sharding_constraint(heads, ("batch", "length", "heads", "kv"))

    def _add_to_cache(
        self, key: jax.Array, value: jax.Array, index: jax.Array
    ) -> tuple[jax.Array, jax.Array] | None:
        """Keys and values so far, the new ones of [batch, 1, heads, kv] among them; None if this call made the cache."""
        has_cache = self.has_variable("cache", "cached_key")
        key, value = _cached_key(key), _cached_value(value)
        cached_key = self.variable("cache", "cached_key", jnp.zeros, key.shape, key.dtype)
        cached_value = self.variable("cache", "cached_value", jnp.zeros, value.shape, value.dtype)
        if not has_cache:
            return None
        if value.shape[2] != 1 or value.shape[0] != cached_value.value.shape[0]:
            raise ValueError(
                f"decoding got tokens of shape {(value.shape[0], value.shape[2])} for a cache of "
                f"{cached_value.value.shape[0]} rows; pass one token a row, with the cache expanded to as many rows."
            )
        cached_key.value = jax.lax.dynamic_update_slice_in_dim(cached_key.value, key, index, axis=3)
        cached_value.value = jax.lax.dynamic_update_slice_in_dim(cached_value.value, value, index, axis=2)
        return cached_key.value, cached_value.value

    def _cross_attention_cache(self, inputs_kv: jax.Array) -> tuple[jax.Array, jax.Array]:
        key = self.variable("cache", "encoded_key", lambda: _cached_key(self._project("key", inputs_kv)))
        value = self.variable(
            "cache", "encoded_value", lambda: _cached_value(self._project("value", inputs_kv))
        )
        return key.value, value.value

    def _attend(self, query, key, value, mask, bias, deterministic: bool) -> jax.Array:
        if not deterministic and self.dropout_rate > 0.0:
            value = plain.drop_values(value, self.make_rng("dropout"), self.dropout_rate)
        return fused.attend(
            self.implementation, query, key, value, mask=mask, bias=bias, float32_logits=self.float32_logits
        )

    @nn.compact
    def __call__(
        self,
        inputs_q: Float[Array, "batch queries embed"],
        inputs_kv: Float[Array, "batch keys embed"],
        mask: fused.Mask = None,
        bias: Float[Array, "..."] | None = None,
        *,
        decode: bool = False,
        cache_index: Int[Array, ""] | None = None,
        deterministic: bool = False,
    ) -> Float[Array, "batch queries embed"]:
        query = self._project("query", inputs_q, initializers.query_normal(self.head_dim))
        cached = None
        if decode and cache_index is None:
            cached = self._cross_attention_cache(inputs_kv)
        else:
            key, value = self._project("key", inputs_kv), self._project("value", inputs_kv)
            if decode:
                cached = self._add_to_cache(key, value, cache_index)
        if cached is not None:
            attended = plain.cached_attention(
                query, *cached, mask=mask, bias=bias, float32_logits=self.float32_logits
            )
        else:
            attended = self._attend(
                query, key, value, mask, bias, deterministic
            )  # [batch, queries, heads, kv]
        return DenseGeneral(
            inputs_q.shape[-1],
            ("joined_kv", "embed"),
            num_input_axes=2,
            dtype=self.dtype,
            kernel_init=initializers.fan_in_normal,
            name="out",
        )(attended)


def _cached_key(key: Float[Array, "batch length heads kv"]) -> Float[Array, "batch heads kv length"]:
    return key.transpose(0, 2, 3, 1)


def _cached_value(value: Float[Array, "batch length heads kv"]) -> Float[Array, "batch heads length kv"]:
    return value.transpose(0, 2, 1, 3)


def relative_position_bucket(
    distance: np.ndarray, *, bidirectional: bool, num_buckets: int, max_distance: int
) -> np.ndarray:
    """The bucket in [0, num_buckets) of each distance = key position - query position (Raffel et al. 2020, 2.1).

    Half the buckets of a direction hold one distance each, the rest grow geometrically up to `max_distance`; the last
    holds everything beyond. Without `bidirectional`, all keys ahead of the query share bucket 0.
    """
    behind = -np.asarray(distance, np.int64)  # how far the key lies before the query
    offset = np.zeros_like(behind)
    if bidirectional:
        num_buckets //= 2
        offset = np.where(behind < 0, num_buckets, 0)
        behind = np.abs(behind)
    behind = np.maximum(behind, 0)
    num_exact = num_buckets // 2
    # 1e-6 keeps exact powers (16, 32, 64) on the upper side of their boundary, where T5 has them.
    growth = np.log(np.maximum(behind, 1) / num_exact) / np.log(max_distance / num_exact)
    far = num_exact + (growth * (num_buckets - num_exact) + 1e-6).astype(np.int64)
    return offset + np.where(behind < num_exact, behind, np.minimum(far, num_buckets - 1))


class RelativePositionBiases(nn.Module):
    """T5's learnt bias per head and distance bucket, shared by all layers of a stack and computed once for it."""

    num_heads: int
    num_buckets: int = 32
    max_distance: int = 128
    dtype: DType = jnp.float32

    @nn.compact
    def __call__(
        self, num_queries: int, num_keys: int, *, bidirectional: bool, by_distance: bool = False
    ) -> Float[Array, "1 heads queries keys"] | Float[Array, "heads distances"]:
        """Of all pairs; or `by_distance`, of distances from -max_distance to max_distance, beyond which nothing changes."""
        embedding = param_with_axes(
            "rel_embedding",
            initializers.fan_avg_uniform,
            (self.num_heads, self.num_buckets),
            jnp.float32,
            axes=("heads", "relpos_buckets"),
        )
        if by_distance:
            distances = np.arange(-self.max_distance, self.max_distance + 1)
            return self._of_distances(embedding, distances, bidirectional)
        # A bias depends on key - query alone, so we look up num_queries + num_keys of them and lay them out by
        # reshaping. Gathering the whole square would scatter its gradient into 32 buckets, slowly and, on GPUs, in
        # no fixed order.
        period = num_queries + num_keys
        distance = np.arange(period)
        distance = np.where(distance < num_keys, distance, distance - period)
        of_distance = self._of_distances(embedding, distance, bidirectional)  # [heads, period]
        # Rows of period - 1 out of a period-long repetition: each row starts one distance earlier than the last.
        rows = jnp.tile(of_distance, (1, num_queries))[:, : num_queries * (period - 1)]
        rows = rows.reshape(self.num_heads, num_queries, period - 1)
        return rows[None, :, :, :num_keys]

    def _of_distances(
        self, embedding: jax.Array, distances: np.ndarray, bidirectional: bool
    ) -> Float[Array, "heads distances"]:
        bucket = relative_position_bucket(
            distances,
            bidirectional=bidirectional,
            num_buckets=self.num_buckets,
            max_distance=self.max_distance,
        )
        one_hot = np.arange(self.num_buckets)[:, None] == bucket  # [buckets, distances]
        return jnp.dot(
            embedding.astype(self.dtype),
            jnp.asarray(one_hot, self.dtype),
            precision=jax.lax.Precision.HIGHEST,
        )
