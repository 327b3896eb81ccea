"""`segment_attention`: softmax attention within segments by the kernels of `kernels`, differentiable, over a mesh."""

import functools
import math

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.ad_checkpoint import checkpoint_name
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton
from jax.sharding import PartitionSpec
from jaxtyping import Array, Float, Int

from stepdistill_jax.engine.model.attention import fused, kernels
from stepdistill_jax.engine.model.attention.kernels import BLOCK, Settings

# Of a Hopper or Ampere GPU; not tuned by measurement.
_WARPS, _STAGES = 4, 2


def segment_attention(
    query: Float[Array, "batch queries heads kv"],
    key: Float[Array, "batch keys kv_heads kv"],
    value: Float[Array, "batch keys kv_heads kv"],
    query_segments: Int[Array, "batch queries"],
    key_segments: Int[Array, "batch keys"],
    biases: Float[Array, "heads distances"] | None = None,
    *,
    scale: float = 1.0,
    causal: bool = False,
    interpret: bool = False,
) -> Float[Array, "batch queries heads kv"]:
    """Softmax attention of each query to the keys of its own segment.

    Args:
      query_segments, key_segments: 0 is padding: as a key it is not seen, as a query it gets zeros.
      biases: added to the scores, by distance = key place - query place: 2 · D + 1 of them for distances -D … D; those that are
        farther take the outermost.
      scale: of the products of query and key.
      causal: whether a query sees no key behind its own place.
      interpret: interprets the kernels (slow, on a CPU), in place of compiling them for a GPU.

    Raises:
      ValueError: for a size of heads that Triton does not multiply.
    """
    if not serves_head_dim(query.shape[-1]):
        raise ValueError(
            f"attention='pallas' with heads of {query.shape[-1]}; Triton takes powers of two, here from 16 to 256: use 'plain'."
        )
    length = query.shape[1]
    query, query_segments = _padded(query), _padded(query_segments.astype(jnp.int32))
    key, value, key_segments = _padded(key), _padded(value), _padded(key_segments.astype(jnp.int32))
    max_distance = 0 if biases is None else biases.shape[1] // 2
    settings = Settings(float(scale), causal, max_distance, interpret)
    biases = None if biases is None else biases.astype(jnp.float32)
    attend = functools.partial(_attend_here, settings)
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.size > 1:
        attend = _over_mesh(attend, mesh, query, key, with_biases=biases is not None)
    attended = attend(query, key, value, query_segments, key_segments, biases)
    return attended[:, :length]


def serves_head_dim(head_dim: int) -> bool:
    """Whether the kernels take heads of this size."""
    return head_dim in (16, 32, 64, 128, 256)


def _padded(rows: jax.Array) -> jax.Array:
    """Zeros up to a multiple of `BLOCK` along axis 1."""
    padding = -rows.shape[1] % BLOCK
    return jnp.pad(rows, ((0, 0), (0, padding)) + ((0, 0),) * (rows.ndim - 2)) if padding else rows


def _over_mesh(attend, mesh, query, key, *, with_biases: bool):
    """Each device attends to the rows and heads that it has: XLA cannot split a kernel by itself."""
    rows_axis, _, heads_axis, _ = nn.logical_to_mesh_axes(("batch", None, "heads", None))
    rows_axis = rows_axis if query.shape[0] % _size(mesh, rows_axis) == 0 else None
    heads_axis = heads_axis if key.shape[2] % _size(mesh, heads_axis) == 0 else None
    states, segments = PartitionSpec(rows_axis, None, heads_axis, None), PartitionSpec(rows_axis, None)
    biases = PartitionSpec(heads_axis, None) if with_biases else None
    return jax.shard_map(
        attend,
        mesh=mesh,
        in_specs=(states, states, states, segments, segments, biases),
        out_specs=states,
        check_vma=False,
    )


def _size(mesh, axes) -> int:
    axes = (axes,) if isinstance(axes, str) else axes or ()
    return math.prod(mesh.shape[axis] for axis in axes)


def _attend_here(settings, query, key, value, query_segments, key_segments, biases):
    visible = kernels.visible_blocks(query_segments, key_segments, causal=settings.causal)
    by_query, by_key = kernels.bounds(visible), kernels.bounds(visible.swapaxes(1, 2))
    return _attend(settings, query, key, value, query_segments, key_segments, biases, by_query, by_key)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _attend(settings, query, key, value, query_segments, key_segments, biases, by_query, by_key):
    return _forward(settings, query, key, value, query_segments, key_segments, biases, by_query)[0]


def _attend_forward(settings, query, key, value, query_segments, key_segments, biases, by_query, by_key):
    out, log_sums = _forward(settings, query, key, value, query_segments, key_segments, biases, by_query)
    out, log_sums = checkpoint_name(out, fused.KEPT), checkpoint_name(log_sums, fused.KEPT)
    return out, (query, key, value, query_segments, key_segments, biases, by_query, by_key, out, log_sums)


class _Specs:
    """Which part of an array a kernel gets at (row, head, block) of its grid."""

    def __init__(self, kv: int) -> None:
        self._kv = kv
        self.bound = pl.BlockSpec((None, None), lambda row, head, block: (row, block))
        self.table = lambda biases: pl.BlockSpec((None, biases.shape[1]), lambda row, head, block: (head, 0))

    def states(self, length: int | None = None, *, group: int = 1) -> pl.BlockSpec:
        """Of [batch, length, heads, kv]: the block, or all of `length`; `group` heads of the grid share one of these."""
        if length is None:
            return pl.BlockSpec(
                (None, BLOCK, None, self._kv), lambda row, head, block: (row, block, head // group, 0)
            )
        return pl.BlockSpec(
            (None, length, None, self._kv), lambda row, head, block: (row, 0, head // group, 0)
        )

    def segments(self, length: int | None = None) -> pl.BlockSpec:
        """Of [batch, length]."""
        if length is None:
            return pl.BlockSpec((None, BLOCK), lambda row, head, block: (row, block))
        return pl.BlockSpec((None, length), lambda row, head, block: (row, 0))

    def sums(self, length: int | None = None) -> pl.BlockSpec:
        """Of [batch, heads, length]."""
        if length is None:
            return pl.BlockSpec((None, None, BLOCK), lambda row, head, block: (row, head, block))
        return pl.BlockSpec((None, None, length), lambda row, head, block: (row, head, 0))


def _call(kernel, settings, name, grid, inputs, out_specs, out_shape):
    """Runs a kernel on (array, spec) pairs, of which an array may be None."""
    given = [array is not None for array, _ in inputs]

    def with_none(*refs):
        refs = iter(refs)
        kernel(*[next(refs) if is_given else None for is_given in given], *refs, settings=settings)

    call = pl.pallas_call(
        with_none,
        grid=grid,
        in_specs=[spec for array, spec in inputs if array is not None],
        out_specs=out_specs,
        out_shape=out_shape,
        interpret=settings.interpret,
        compiler_params=None
        if settings.interpret
        else triton.CompilerParams(num_warps=_WARPS, num_stages=_STAGES),
        name=name,
    )
    return call(*[array for array, _ in inputs if array is not None])


def _inputs(specs, bounds, query, key, value, query_segments, key_segments, biases, *, blocks_of):
    """(array, spec) of what all kernels take whose grid goes through the blocks of 'queries' or of 'keys'; the other side is whole."""
    group = query.shape[2] // key.shape[2]
    queries, keys = (None, key.shape[1]) if blocks_of == "queries" else (query.shape[1], None)
    return [
        (bounds[0], specs.bound),
        (bounds[1], specs.bound),
        (query, specs.states(queries)),
        (key, specs.states(keys, group=group)),
        (value, specs.states(keys, group=group)),
        (query_segments, specs.segments(queries)),
        (key_segments, specs.segments(keys)),
        (biases, None if biases is None else specs.table(biases)),
    ]


def _forward(settings, query, key, value, query_segments, key_segments, biases, by_query):
    """(attended, log of the softmax's sum for each query: float32 [batch, heads, queries])."""
    batch, queries, heads, kv = query.shape
    specs = _Specs(kv)
    return _call(
        kernels.forward_kernel,
        settings,
        "segment_attention",
        (batch, heads, queries // BLOCK),
        _inputs(
            specs, by_query, query, key, value, query_segments, key_segments, biases, blocks_of="queries"
        ),
        (specs.states(), specs.sums()),
        (
            jax.ShapeDtypeStruct(query.shape, query.dtype),
            jax.ShapeDtypeStruct((batch, heads, queries), jnp.float32),
        ),
    )


def _attend_backward(settings, residuals, out_gradient):
    *arrays, by_query, by_key, out, log_sums = residuals
    query, key, *_, biases = arrays
    batch, queries, heads, kv = query.shape
    keys, kv_heads = key.shape[1:3]
    specs = _Specs(kv)
    # What all weights of a query are pulled down by, as they sum up to 1.
    pulled = jnp.einsum("bqhd,bqhd->bhq", out, out_gradient, preferred_element_type=jnp.float32)
    query_gradient = _call(
        kernels.query_gradient_kernel,
        settings,
        "segment_attention_query_gradient",
        (batch, heads, queries // BLOCK),
        [
            *_inputs(specs, by_query, *arrays, blocks_of="queries"),
            (log_sums, specs.sums()),
            (pulled, specs.sums()),
            (out_gradient, specs.states()),
        ],
        specs.states(),
        jax.ShapeDtypeStruct(query.shape, query.dtype),
    )
    group = heads // kv_heads
    of_each_head = jax.ShapeDtypeStruct((batch, keys, heads, kv), key.dtype if group == 1 else jnp.float32)
    key_gradient, value_gradient = _call(
        kernels.key_value_gradient_kernel,
        settings,
        "segment_attention_key_value_gradient",
        (batch, heads, keys // BLOCK),
        [
            *_inputs(specs, by_key, *arrays, blocks_of="keys"),
            (log_sums, specs.sums(queries)),
            (pulled, specs.sums(queries)),
            (out_gradient, specs.states(queries)),
        ],
        (specs.states(), specs.states()),
        (of_each_head, of_each_head),
    )
    if group > 1:
        key_gradient, value_gradient = (
            jnp.sum(gradient.reshape(batch, keys, kv_heads, group, kv), axis=3).astype(key.dtype)
            for gradient in (key_gradient, value_gradient)
        )
    bias_gradient = None
    if biases is not None:
        bias_gradient = _bias_gradient(settings, *arrays, by_query, log_sums, pulled, out_gradient)
    return query_gradient, key_gradient, value_gradient, None, None, bias_gradient, None, None


def _bias_gradient(
    settings,
    query,
    key,
    value,
    query_segments,
    key_segments,
    biases,
    by_query,
    log_sums,
    pulled,
    out_gradient,
):
    """Float32 [heads, distances]."""
    batch, queries, heads, kv = query.shape
    keys, group = key.shape[1], heads // key.shape[2]
    offsets = 2 * settings.near + 3
    blocks = queries // BLOCK
    of_query = pl.BlockSpec((batch, BLOCK, None, kv), lambda head, block, offset: (0, block, head, 0))
    of_keys = pl.BlockSpec((batch, keys, None, kv), lambda head, block, offset: (0, 0, head // group, 0))
    sums = pl.BlockSpec((batch, None, BLOCK), lambda head, block, offset: (0, head, block))
    bound = pl.BlockSpec((batch, None), lambda head, block, offset: (0, block))
    gradients = _call(
        kernels.bias_gradient_kernel,
        settings,
        "segment_attention_bias_gradient",
        (heads, blocks, offsets),
        [
            (by_query[0], bound),
            (by_query[1], bound),
            (query, of_query),
            (key, of_keys),
            (value, of_keys),
            (query_segments, pl.BlockSpec((batch, BLOCK), lambda head, block, offset: (0, block))),
            (key_segments, pl.BlockSpec((batch, keys), lambda head, block, offset: (0, 0))),
            (biases, pl.BlockSpec((None, biases.shape[1]), lambda head, block, offset: (head, 0))),
            (log_sums, sums),
            (pulled, sums),
            (out_gradient, of_query),
        ],
        pl.BlockSpec(
            (None, None, None, BLOCK, BLOCK), lambda head, block, offset: (head, block, offset, 0, 0)
        ),
        jax.ShapeDtypeStruct((heads, blocks, offsets, BLOCK, BLOCK), jnp.float32),
    )
    return kernels.table_gradient(gradients, settings)


_attend.defvjp(_attend_forward, _attend_backward)
