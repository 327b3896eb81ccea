"""Attention by matrix products and a softmax over all scores; dropout of its weights, whatever computes it."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Shaped

# A query that may attend to nothing (padding) gets equal scores of this size, so a uniform softmax and no NaN.
MASKED_SCORE = -1e10


def dot_product_attention(
    query: Float[Array, "batch queries heads kv"],
    key: Float[Array, "batch keys heads kv"],
    value: Float[Array, "batch keys heads kv"],
    *,
    mask: Bool[Array, "#batch 1 #queries keys"] | None = None,
    bias: Float[Array, "1 heads #queries keys"] | None = None,
    dropout_rng: Shaped[Array, "..."] | None = None,
    dropout_rate: float = 0.0,
    float32_logits: bool = False,
) -> Float[Array, "batch queries heads kv"]:
    """Softmax attention as T5 takes it: no 1/sqrt(kv), which T5 folds into the query's initialiser.

    Scores are summed up and normalised in float32 (T5X rounds both to `dtype`); the weights return to query's dtype.

    Args:
      mask: True where a query may look.
      bias: added to the scores, such as relative position biases.
      dropout_rng: without one, no dropout; see `drop_values`.
      float32_logits: multiplies query and key in float32 too.
    """
    if dropout_rng is not None and dropout_rate > 0.0:
        value = drop_values(value, dropout_rng, dropout_rate)
    scores = _scores("bqhd,bkhd->bhqk", query, key, float32_logits)
    weights = _attention_weights(scores, mask, bias).astype(query.dtype)
    return jnp.einsum("bhqk,bkhd->bqhd", weights, value)


def cached_attention(
    query: Float[Array, "batch queries heads kv"],
    key: Float[Array, "batch heads kv keys"],
    value: Float[Array, "batch heads keys kv"],
    *,
    mask: Bool[Array, "#batch 1 #queries keys"] | None = None,
    bias: Float[Array, "1 heads #queries keys"] | None = None,
    float32_logits: bool = False,
) -> Float[Array, "batch queries heads kv"]:
    """`dot_product_attention` without dropout, of keys and values as a cache keeps them: as the products read them."""
    scores = _scores("bqhd,bhdk->bhqk", query, key, float32_logits)
    weights = _attention_weights(scores, mask, bias).astype(query.dtype)
    return jnp.einsum("bhqk,bhkd->bqhd", weights, value)


def _scores(product: str, query: jax.Array, key: jax.Array, float32_logits: bool) -> jax.Array:
    if float32_logits:
        query, key = query.astype(jnp.float32), key.astype(jnp.float32)
    return jnp.einsum(product, query, key, preferred_element_type=jnp.float32)


def _attention_weights(scores: jax.Array, mask: jax.Array | None, bias: jax.Array | None) -> jax.Array:
    """Softmax over the keys of biased and masked scores: float32 [batch, heads, queries, keys]."""
    if bias is not None:
        scores = scores + bias.astype(jnp.float32)
    if mask is not None:
        scores = jnp.where(mask, scores, MASKED_SCORE)
    return jax.nn.softmax(scores, axis=-1)


def drop_values(
    value: Float[Array, "batch keys heads kv"], rng: Shaped[Array, "..."], rate: float
) -> Float[Array, "batch keys heads kv"]:
    """T5's dropout of attention weights, done to the values.

    T5 drops a weight for all queries of a row at once: a mask over (row, head, key). Weights times such a mask, times values, are
    weights times masked values. So what computes attention need not know of dropout.
    """
    batch, keys, heads, _ = value.shape
    keep = jax.random.bernoulli(
        rng, 1.0 - rate, (batch, heads, 1, keys)
    )  # T5's shape: the weights', all queries alike
    keep = keep.astype(value.dtype) / jnp.asarray(1.0 - rate, value.dtype)
    return value * keep.transpose(0, 3, 1, 2)
