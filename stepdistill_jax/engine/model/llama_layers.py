"""What a Llama has that a T5 has not: rotary positions, and attention whose query heads share keys and values.

Parameters are float32; each module computes in its `dtype`, softmax, norms and rotations in float32.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from stepdistill_jax.engine.model import initializers, layers
from stepdistill_jax.engine.model.attention import fused, plain
from stepdistill_jax.engine.model.layers import DType

# Queries of a causal row that are computed together, with no keys behind the last of them; a row has no more than so many blocks.
_CAUSAL_BLOCK = 64
_MOST_CAUSAL_BLOCKS = 8


@struct.dataclass
class Rotation:
    """The angles of a row's positions.

    Attributes:
      cosine, sine: float32 [batch, length, kv / 2].
    """

    cosine: jax.Array
    sine: jax.Array

    def __call__(self, heads: Float[Array, "batch length heads kv"]) -> Float[Array, "batch length heads kv"]:
        """Each pair (i, i + kv / 2) of a head's features turned by its angle (Su et al. 2021, arXiv:2104.09864, Eq. 34).

        The paper pairs neighbours; Hugging Face's checkpoints pair the first half with the second.
        """
        first, second = jnp.split(heads.astype(jnp.float32), 2, axis=-1)
        cosine, sine = self.cosine[:, :, None, :], self.sine[:, :, None, :]
        turned = jnp.concatenate([first * cosine - second * sine, second * cosine + first * sine], axis=-1)
        return turned.astype(heads.dtype)


def rotary_frequencies(
    head_dim: int,
    *,
    theta: float,
    factor: float = 1.0,
    low_frequency_factor: float | None = None,
    high_frequency_factor: float | None = None,
    original_length: int | None = None,
) -> np.ndarray:
    """Radians a position, float32 [head_dim / 2]: theta^(-2i / head_dim).

    Args:
      factor: by which positions are pressed together for longer texts; 1.0 leaves them.
      low_frequency_factor, high_frequency_factor, original_length: Llama 3.1's: only waves longer than original_length /
        low_frequency_factor tokens are slowed by the whole factor, those shorter than original_length /
        high_frequency_factor not at all, and those between in part. Without them all are.
    """
    frequencies = 1.0 / theta ** (np.arange(0, head_dim, 2, dtype=np.float32) / np.float32(head_dim))
    if factor == 1.0:
        return frequencies.astype(np.float32)
    if low_frequency_factor is None or high_frequency_factor is None or original_length is None:
        return (frequencies / factor).astype(np.float32)
    turns = original_length * frequencies / (2 * math.pi)  # within the original length
    kept = (turns - low_frequency_factor) / (high_frequency_factor - low_frequency_factor)
    kept = np.clip(kept, 0.0, 1.0)
    return ((kept + (1.0 - kept) / factor) * frequencies).astype(np.float32)


def rotation(positions: Int[Array, "batch length"], frequencies: np.ndarray) -> Rotation:
    """The rotation of tokens at these positions."""
    angles = (
        positions.astype(jnp.float32)[..., None] * jnp.asarray(frequencies)[None, None]
    )  # [batch, length, kv / 2]
    return Rotation(jnp.cos(angles), jnp.sin(angles))


class GroupedQueryAttention(nn.Module):
    """Causal self-attention whose query heads share key and value heads in groups (Ainslie et al. 2023, arXiv:2305.13245).

    With `cache_index`, keys and values of the tokens so far lie in 'cached_key' and 'cached_value', [batch, kv_heads,
    length, kv], which no step has to transpose; rows may be of different lengths. With `prefill`, all tokens at hand fill
    the cache at once.

    Attributes:
      query_scale: what scores are multiplied by.
      use_bias: whether query, key and value have a bias (Qwen 2.5).
      query_key_norm: whether queries and keys are normed, each head by itself (Qwen 3, Gemma 3).
      implementation: what computes attention without a cache (`attention.fused`); the mask comes in its form.
    """

    num_heads: int
    num_kv_heads: int
    head_dim: int
    query_scale: float
    dtype: DType = jnp.float32
    use_bias: bool = False
    query_key_norm: bool = False
    norm_epsilon: float = 1e-6
    norm_offset: float = 0.0
    implementation: str = "plain"

    def _project(self, name: str, inputs: jax.Array, num_heads: int) -> Float[Array, "batch length heads kv"]:
        return layers.DenseGeneral(
            (num_heads, self.head_dim),
            ("embed", "joined_kv"),
            dtype=self.dtype,
            kernel_init=initializers.fan_in_normal,
            use_bias=self.use_bias,
            name=name,
        )(inputs)

    def _normed(self, name: str, heads: jax.Array) -> jax.Array:
        if not self.query_key_norm:
            return heads
        return layers.LayerNorm(
            self.norm_epsilon, self.dtype, scale_offset=self.norm_offset, axis="kv", name=name
        )(heads)

    def _from_cache(
        self, key: jax.Array, value: jax.Array, cache_index: jax.Array, prefill: bool
    ) -> tuple[jax.Array, jax.Array]:
        """Keys and values to attend to, once those at hand are in the cache; the call that makes it leaves it empty."""
        has_cache = self.has_variable("cache", "cached_key")
        cached_key = self.variable("cache", "cached_key", jnp.zeros, key.shape, key.dtype)
        cached_value = self.variable("cache", "cached_value", jnp.zeros, value.shape, value.dtype)
        if not has_cache:
            return key, value
        if key.shape[0] != cached_key.value.shape[0] or (not prefill and key.shape[2] != 1):
            raise ValueError(
                f"decoding got tokens of shape {(key.shape[0], key.shape[2])} for a cache of "
                f"{cached_key.value.shape[0]} rows; pass one token a row, with the cache expanded to as many rows."
            )
        if prefill:
            # What lies behind a row's own tokens is overwritten, one by one, before it is ever looked at.
            cached_key.value, cached_value.value = key, value
            return key, value
        rows = jnp.arange(key.shape[0])  # those that are full write nowhere
        cached_key.value = cached_key.value.at[rows, :, cache_index].set(key[:, :, 0])
        cached_value.value = cached_value.value.at[rows, :, cache_index].set(value[:, :, 0])
        return cached_key.value, cached_value.value

    @nn.compact
    def __call__(
        self,
        inputs: Float[Array, "batch queries embed"],
        mask: Bool[Array, "#batch 1 queries keys"] | None,
        turn: Rotation,
        *,
        causal: bool = False,
        cache_index: Int[Array, " batch"] | None = None,
        prefill: bool = False,
    ) -> Float[Array, "batch queries embed"]:
        """`causal`: the mask lets no query look behind its own place, so those scores need not be computed."""
        query = turn(self._normed("query_norm", self._project("query", inputs, self.num_heads)))
        key = turn(self._normed("key_norm", self._project("key", inputs, self.num_kv_heads)))
        value = self._project("value", inputs, self.num_kv_heads)
        key, value = key.swapaxes(1, 2), value.swapaxes(1, 2)  # [batch, kv_heads, length, kv]
        if cache_index is not None:
            key, value = self._from_cache(key, value, cache_index, prefill)
        if self.implementation == "plain":
            attend = causal_attention if causal else grouped_attention
            attended = attend(query, key, value, mask, scale=self.query_scale)
        else:
            key, value = key.swapaxes(1, 2), value.swapaxes(1, 2)
            attended = fused.attend(self.implementation, query, key, value, mask=mask, scale=self.query_scale)
        return layers.DenseGeneral(
            inputs.shape[-1],
            ("joined_kv", "embed"),
            num_input_axes=2,
            dtype=self.dtype,
            kernel_init=initializers.fan_in_normal,
            name="out",
        )(attended)


def grouped_attention(
    query: Float[Array, "batch queries heads kv"],
    key: Float[Array, "batch kv_heads keys kv"],
    value: Float[Array, "batch kv_heads keys kv"],
    mask: Bool[Array, "#batch 1 queries keys"] | None,
    *,
    scale: float,
) -> Float[Array, "batch queries heads kv"]:
    """Softmax attention of query heads in groups, each with one head of keys and values; scores are float32.

    A query that may look at nothing (padding) gets the mean of all values, and no NaN.
    """
    batch, length, num_heads, head_dim = query.shape
    kv_heads = key.shape[1]
    # The queries of a group are rows of one matrix: on a CPU the layers' forward and backward pass took 12.9 s so, not 15.0.
    rows = (query * scale).reshape(batch, length, kv_heads, -1, head_dim).transpose(0, 2, 3, 1, 4)
    rows = rows.reshape(batch, kv_heads, -1, head_dim)  # [batch, kv_heads, group * queries, kv]
    scores = jnp.einsum("bhqd,bhkd->bhqk", rows, key, preferred_element_type=jnp.float32)
    scores = scores.reshape(batch, kv_heads, -1, length, key.shape[2])
    if mask is not None:
        scores = jnp.where(mask[:, :, None], scores, plain.MASKED_SCORE)
    weights = jax.nn.softmax(scores, axis=-1).astype(query.dtype)
    attended = jnp.einsum("bhqk,bhkd->bhqd", weights.reshape(*rows.shape[:3], -1), value)
    attended = attended.reshape(batch, kv_heads, -1, length, head_dim).transpose(0, 3, 1, 2, 4)
    return attended.reshape(batch, length, num_heads, head_dim)


def causal_attention(
    query: Float[Array, "batch length heads kv"],
    key: Float[Array, "batch kv_heads length kv"],
    value: Float[Array, "batch kv_heads length kv"],
    mask: Bool[Array, "#batch 1 length length"],
    *,
    scale: float,
) -> Float[Array, "batch length heads kv"]:
    """`grouped_attention` where no query looks behind its own place: block by block of the queries, without the keys behind it.

    Rows of 256 tokens need 5/8 of the scores so. (A query that may look at nothing gets a mean of values, too, but not of all.)
    """
    length = query.shape[1]
    block = max(_CAUSAL_BLOCK, -(-length // _MOST_CAUSAL_BLOCKS))
    ends = [(start, min(start + block, length)) for start in range(0, length, block)]
    blocks = [
        grouped_attention(
            query[:, start:end], key[:, :, :end], value[:, :, :end], mask[:, :, start:end, :end], scale=scale
        )
        for start, end in ends
    ]
    return jnp.concatenate(blocks, axis=1)
