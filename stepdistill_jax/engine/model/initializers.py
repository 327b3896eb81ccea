"""First values of parameters, all of one shape drawn in one loop.

A T5 has hundreds of parameters of a dozen shapes. Drawn one by one, each is code of its own, and compiling that takes as
long as compiling the train step; drawn by shape, a dozen loops are compiled. The numbers are the same either way.
"""

import collections
import contextvars
import functools
import hashlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

Initializer = Callable[..., jax.Array]  # (key, shape, dtype) -> values


class _Draw(NamedTuple):
    initializer: Initializer
    placeholder: jax.Array


_pending: contextvars.ContextVar[list[_Draw] | None] = contextvars.ContextVar("pending", default=None)


def drawn_by_shape(init: Callable[[], Any], rng: jax.Array) -> Any:
    """The variables of `init`, a tree, with the values that this module's initializers draw; call it under `jax.jit`.

    Args:
      init: a Flax module's, given `rng`.

    Raises:
      ValueError: if a module has two such parameters: they would get the same key.
    """
    pending: list[_Draw] = []
    token = _pending.set(pending)
    try:
        variables = init()
    finally:
        _pending.reset(token)
    paths = {id(leaf): path for path, leaf in jax.tree.leaves_with_path(variables)}
    modules = collections.Counter(paths[id(draw.placeholder)][:-1] for draw in pending)
    for module, number in modules.items():
        if number > 1:
            raise ValueError(
                f"{jax.tree_util.keystr(module)} has {number} parameters of initializers.py; one a module can be drawn by "
                "shape: give each a module of its own."
            )
    groups = collections.defaultdict(list)
    for draw in pending:
        groups[draw.initializer, draw.placeholder.shape, draw.placeholder.dtype].append(id(draw.placeholder))
    values = {}
    for (initializer, shape, dtype), places in groups.items():
        hashes = np.array([_flax_hash(paths[place]) for place in places], np.uint32)
        keys = jax.vmap(jax.random.fold_in, (None, 0))(rng, hashes)
        drawn = jax.lax.map(functools.partial(initializer, shape=shape, dtype=dtype), keys)
        values |= dict(zip(places, drawn, strict=True))
    return jax.tree.map(lambda leaf: values.get(id(leaf), leaf), variables)


def _flax_hash(path: Sequence[jax.tree_util.DictKey]) -> int:
    """What Flax folds into the key of the first parameter of a module: SHA-1 of the names on its path, and of 1."""
    _, *modules, _ = (key.key for key in path)  # 'params' and the parameter's own name are left out
    return int.from_bytes(hashlib.sha1("".join(modules).encode() + b"\1").digest()[:4], "big")


def _by_shape(initializer: Initializer) -> Initializer:
    """`initializer`, which within `drawn_by_shape` is asked for many values at once; until then a parameter is zero."""

    @functools.wraps(initializer)
    def draw(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        pending = _pending.get()
        if pending is None:
            return initializer(key, shape, dtype)
        placeholder = jnp.zeros(shape, dtype)
        pending.append(_Draw(initializer, placeholder))
        return placeholder

    return draw


fan_in_normal = _by_shape(nn.initializers.variance_scaling(1.0, "fan_in", "normal"))
fan_in_truncated_normal = _by_shape(nn.initializers.variance_scaling(1.0, "fan_in", "truncated_normal"))
fan_avg_uniform = _by_shape(nn.initializers.variance_scaling(1.0, "fan_avg", "uniform"))
unit_normal = _by_shape(nn.initializers.normal(stddev=1.0))
small_normal = _by_shape(nn.initializers.normal(stddev=0.02))


@functools.lru_cache
def query_normal(head_dim: int) -> Initializer:
    """`fan_in_normal` divided by sqrt(head_dim), the factor that T5's attention scores lack."""
    normal = nn.initializers.variance_scaling(1.0, "fan_in", "normal")
    return _by_shape(lambda key, shape, dtype: normal(key, shape, dtype) / jnp.sqrt(jnp.float32(head_dim)))
