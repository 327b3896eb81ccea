"""`attend`: attention by the implementation that was chosen, from a mask and biases in the form that it takes."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from stepdistill_jax.engine.hardware.present_devices import target_platform
from stepdistill_jax.engine.model.attention import plain
from stepdistill_jax.engine.model.masks import SegmentMask

# Name of what a layer that is computed again for its backward pass keeps of a kernel's results: it then runs forward once.
KEPT = "attended"

# cuDNN's gradients of queries are NaN on a Hopper GPU where a length is 64 modulo 128 and a query sees nothing but very low scores.
_CUDNN_MULTIPLE = 128

Mask = Bool[Array, "#batch 1 #queries keys"] | SegmentMask | None


def takes_segments(implementation: str) -> bool:
    """Whether an implementation wants segments and biases by distance, rather than arrays over queries and keys."""
    return implementation == "pallas"


def in_its_form(mask: Mask, implementation: str) -> Mask:
    """A mask as the implementation takes it: made once for all layers."""
    if isinstance(mask, SegmentMask) and not takes_segments(implementation):
        return mask.array()
    return mask


def attend(
    implementation: str,
    query: Float[Array, "batch queries heads kv"],
    key: Float[Array, "batch keys kv_heads kv"],
    value: Float[Array, "batch keys kv_heads kv"],
    *,
    mask: Mask = None,
    bias: jax.Array | None = None,
    scale: float = 1.0,
    float32_logits: bool = False,
) -> Float[Array, "batch queries heads kv"]:
    """Softmax attention without dropout (`plain.drop_values` does that to the values).

    Args:
      implementation: 'plain' (as many heads of keys as of queries), 'xla', 'cudnn' or 'pallas'.
      mask: as `in_its_form` gives it.
      bias: added to the scores: [1, heads, queries, keys], or for 'pallas' [heads, distances] (`segment_attention`).
      scale: of the products of query and key.
      float32_logits: 'plain' multiplies query and key in float32.
    """
    if implementation == "pallas":
        from stepdistill_jax.engine.model.attention.segments import segment_attention

        return segment_attention(
            query, key, value, mask.query_segments, mask.key_segments, bias,
            scale=scale, causal=mask.causal, interpret=target_platform() == "cpu",
        )  # fmt: skip
    if implementation == "plain":
        query = query if scale == 1.0 else query * scale
        return plain.dot_product_attention(
            query, key, value, mask=mask, bias=bias, float32_logits=float32_logits
        )
    length = query.shape[1]
    if implementation == "cudnn":
        query, key, value, mask, bias = _padded(query, key, value, mask, bias)
    attended = jax.nn.dot_product_attention(
        query, key, value, bias=bias, mask=mask, scale=scale, implementation=implementation
    )
    return attended[:, :length]


def _padded(query, key, value, mask, bias):
    """All of it with lengths that cuDNN is right for; what is added is not seen."""
    queries, keys = query.shape[1], key.shape[1]
    more_queries, more_keys = -queries % _CUDNN_MULTIPLE, -keys % _CUDNN_MULTIPLE
    if not (more_queries or more_keys):
        return query, key, value, mask, bias
    if mask is None:
        mask = jnp.ones((1, 1, queries, keys), jnp.bool_)
    mask = jnp.broadcast_to(mask, (*mask.shape[:2], queries, keys))
    over_both = ((0, 0), (0, 0), (0, more_queries), (0, more_keys))
    query, key, value = (
        jnp.pad(rows, ((0, 0), (0, more), (0, 0), (0, 0)))
        for rows, more in ((query, more_queries), (key, more_keys), (value, more_keys))
    )
    if bias is not None:
        bias = jnp.pad(jnp.broadcast_to(bias, (*bias.shape[:2], queries, keys)), over_both)
    return query, key, value, jnp.pad(mask, over_both), bias
