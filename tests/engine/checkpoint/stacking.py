"""T5X's stacked layout made of ours: what tests unstack again."""

import re

import jax.numpy as jnp
from flax import traverse_util


def stack_layers(params, scan_axis=1):
    """The nested dict of parameters as T5X's scalable_t5 keeps them: encoder/encoder/… with an axis of layers."""
    stacked, layers = {}, {}
    for path, leaf in traverse_util.flatten_dict(params, sep="/").items():
        match = re.fullmatch(r"(encoder|decoder)/layers_(\d+)/(.+)", path)
        if match is None:
            stacked[path] = leaf
        else:
            stack, number, rest = match.groups()
            layers.setdefault(f"{stack}/{stack}/{rest}", {})[int(number)] = leaf
    for path, by_number in layers.items():
        stacked[path] = jnp.stack([by_number[i] for i in range(len(by_number))], axis=scan_axis)
    return traverse_util.unflatten_dict(stacked, sep="/")
