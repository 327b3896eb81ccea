"""The stacked layout of T5X's scalable_t5 (the public umT5 checkpoints), and ours, which has every layer apart.

Stacked:  encoder/encoder/mlp/wi_0/kernel    [embed, layers, mlp]; layers along `param_scan_axis`
Ours:     encoder/layers_3/mlp/wi_0/kernel   [embed, mlp]
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from flax import traverse_util

PyTree = Any

_STACKED = re.compile(r"^((?:.*/)?)(encoder|decoder)/\2/(.+)$")
_MOMENTS = ("v_row", "v_col", "v", "m")
_PARAM_STATES = "state/param_states/"
_MIN_DIM_SIZE_TO_FACTOR = 128  # T5X's Adafactor, and ours


def is_stacked(tree: PyTree) -> bool:
    """Whether a tree of parameters or a state's dict has T5X's stacked layers; only names are looked at."""
    return any(_STACKED.match(path) for path in traverse_util.flatten_dict(dict(tree), sep="/"))


def unstack_layers(tree: PyTree, scan_axis: int = 1) -> PyTree:
    """The tree with the layers apart.

    Leaves need `shape` and basic indexing only, so that arrays which are read lazily stay so.

    Args:
      tree: nested dict of parameters, or a state's {'target': parameters, 'state': {'step', 'param_states'}} with
        Adafactor's moments; those come out as an unstacked Adafactor keeps them.
      scan_axis: where the parameters have the axis of layers.

    Raises:
      ValueError: for a parameter without that axis, or moments that an unstacked Adafactor has no place for.
    """
    flat = traverse_util.flatten_dict(dict(tree), sep="/")
    apart = {path: leaf for path, leaf in flat.items() if not _STACKED.match(path)}
    for path, leaf in flat.items():
        match = _STACKED.match(path)
        if match is None or path.startswith(_PARAM_STATES):
            continue
        num_layers = _num_layers(path, leaf, scan_axis)
        start, stack, rest = match.groups()
        moments = _moments_of(flat, path.removeprefix("target/")) if path.startswith("target/") else {}
        for i in range(num_layers):
            place = f"{start}{stack}/layers_{i}/{rest}"
            apart[place] = _take(leaf, i, scan_axis)
            state_place = _PARAM_STATES + place.removeprefix("target/")
            for name, moment in _moments_of_layer(moments, leaf.shape, i, scan_axis, path).items():
                apart[f"{state_place}/{name}"] = moment
    return traverse_util.unflatten_dict(apart, sep="/")


def _num_layers(path: str, leaf: Any, scan_axis: int) -> int:
    if len(leaf.shape) <= scan_axis:
        raise ValueError(
            f"parameter '{path}' of shape {tuple(leaf.shape)} has no axis {scan_axis} of layers; set param_scan_axis to "
            "what the checkpoint was trained with."
        )
    return leaf.shape[scan_axis]


def _take(leaf: Any, index: int, axis: int) -> Any:
    return leaf[(slice(None),) * axis + (index,)]


def _moments_of(flat: Mapping[str, Any], path: str) -> dict[str, Any]:
    names = {name: f"{_PARAM_STATES}{path}/{name}" for name in _MOMENTS}
    return {name: flat[place] for name, place in names.items() if place in flat}


def _moments_of_layer(
    moments: Mapping[str, Any], shape: tuple[int, ...], index: int, scan_axis: int, path: str
) -> dict[str, Any]:
    """Adafactor's moments of one layer; a moment that is not used is [1] in both layouts."""
    if not moments:
        return {}
    layer = {name: moment for name, moment in moments.items() if tuple(moment.shape) == (1,)}
    for name in ("v", "m"):
        if name in moments and name not in layer:
            layer[name] = _take(moments[name], index, scan_axis)
    if len(layer) == len(moments):
        return layer
    unused = moments["v"]  # [1]
    rest = tuple(length for axis, length in enumerate(shape) if axis != scan_axis)
    # Norms and position biases: T5X's rules factor a stack of them into rows alone or columns alone. The other factor is
    # its mean and cancels, so the one of the parameter's shape is the unfactored moment.
    whole = next(
        (moments[name] for name in ("v_row", "v_col") if tuple(moments[name].shape) == tuple(shape)), None
    )
    if whole is not None:
        return {**layer, "v": _take(whole, index, scan_axis), "v_row": unused, "v_col": unused}
    if len(rest) != 2 or min(rest) < _MIN_DIM_SIZE_TO_FACTOR:
        raise ValueError(
            f"parameter '{path}' of shape {tuple(shape)}: its factored moments have no counterpart in an unstacked "
            f"Adafactor, which factors matrices from {_MIN_DIM_SIZE_TO_FACTOR} on; restore the parameters alone."
        )
    # The moment along a matrix's first dimension and the one along its second, each still with its axis of layers.
    layers_in_first, layers_in_second = min(scan_axis, 1), max(scan_axis - 1, 0)
    along_first = tuple(np.insert(rest[:1], layers_in_first, shape[scan_axis]))
    first = next(name for name in ("v_row", "v_col") if tuple(moments[name].shape) == along_first)
    second = "v_col" if first == "v_row" else "v_row"
    row = _take(moments[first], index, layers_in_first)
    column = _take(moments[second], index, layers_in_second)
    # An unstacked Adafactor calls the moment along the shorter dimension 'v_row'.
    return (
        {**layer, "v_row": row, "v_col": column}
        if rest[0] <= rest[1]
        else {**layer, "v_row": column, "v_col": row}
    )
