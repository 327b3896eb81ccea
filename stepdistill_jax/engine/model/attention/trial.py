"""A fused implementation of attention against the plain one on the device at hand, before a run relies on it."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from stepdistill_jax.engine.model import masks
from stepdistill_jax.engine.model.attention import fused, plain
from stepdistill_jax.engine.model.attention.segments import segment_attention

_LENGTH, _HEADS, _MAX_DISTANCE = 192, 2, 128
_TOLERANCE = 0.03  # of the largest value; bfloat16 keeps 8 bits


def failure(implementation: str, dtype: Any, head_dim: int, *, interpret: bool = False) -> str | None:
    """What is wrong in values or gradients of a small packed batch, in a few words; None if nothing is.

    Args:
      implementation: 'pallas', 'cudnn' or 'xla'.
      dtype: that it multiplies in.
      interpret: interprets the kernels of 'pallas'.
    """
    rng = np.random.default_rng(0)
    shape = (2, _LENGTH, _HEADS, head_dim)
    query, key, value, pull = (jnp.asarray(rng.normal(size=shape), dtype) for _ in range(4))
    biases = jnp.asarray(rng.normal(size=(_HEADS, 2 * _MAX_DISTANCE + 1)), jnp.float32)
    lengths = np.array([[30, 100, 50, 12], [1, 170, 20, 1]])  # the last of each row is padding
    segments = jnp.asarray(np.stack([np.repeat([1, 2, 3, 0], of_row) for of_row in lengths]), jnp.int32)
    distance = np.clip(np.arange(_LENGTH) - np.arange(_LENGTH)[:, None], -_MAX_DISTANCE, _MAX_DISTANCE)

    def by_kernels(query, key, value, biases, causal):
        if implementation == "pallas":
            return segment_attention(
                query, key, value, segments, segments, biases, scale=0.1, causal=causal, interpret=interpret
            )
        mask = masks.SegmentMask(segments, segments, causal).array()
        bias = biases[:, distance + _MAX_DISTANCE][None].astype(query.dtype)
        return fused.attend(implementation, query, key, value, mask=mask, bias=bias, scale=0.1)

    def by_products(query, key, value, biases, causal):
        query, key, value = (rows.astype(jnp.float32) for rows in (query * 0.1, key, value))
        mask = masks.SegmentMask(segments, segments, causal).array()
        bias = biases[:, distance + _MAX_DISTANCE][None]
        with jax.default_matmul_precision("highest"):
            return plain.dot_product_attention(query, key, value, mask=mask, bias=bias)

    for causal in (False, True):
        results = []
        for attend in (by_kernels, by_products):

            def pulled(*inputs, attend=attend, causal=causal):
                attended = attend(*inputs, causal) * (segments > 0)[..., None, None]
                return jnp.sum(attended.astype(jnp.float32) * pull.astype(jnp.float32)), attended

            run = jax.jit(jax.value_and_grad(pulled, (0, 1, 2, 3), has_aux=True))
            try:
                (_, attended), gradients = run(query, key, value, biases)
            except (
                Exception
            ) as error:  # of a compiler or driver; whatever it is, there is another way to compute it
                return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
            results.append([np.asarray(array, np.float32) for array in (attended, *gradients)])
        names = ("values", "query gradients", "key gradients", "value gradients", "bias gradients")
        for name, ours, right in zip(names, *results, strict=True):
            error = np.max(np.abs(ours - right)) / np.max(np.abs(right))
            if not error <= _TOLERANCE:  # NaN, too
                return f"{name} differ from plain attention by {error:.1%} of the largest"
    return None
