"""Nested dictionaries of a state's arrays: flat names and back, joined, cut, and renamed. T5X's names and rules."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from flax import traverse_util

from stepdistill_jax.base.messages import nearest

StateDict = Mapping[str, Any]


def tensorstore_leaf(_: Any, value: Mapping[str, Any]) -> bool:
    """Whether a dictionary is a TensorStore spec, which stands for one array."""
    return {"driver", "kvstore", "metadata"} <= set(value)


def flatten_state_dict(state_dict: StateDict, keep_empty_nodes: bool = False) -> dict[str, Any]:
    """{'a': {'b': array}} to {'a/b': array}."""
    return traverse_util.flatten_dict(
        state_dict, is_leaf=tensorstore_leaf, keep_empty_nodes=keep_empty_nodes, sep="/"
    )


def unflatten_state_dict(flat: Mapping[str, Any]) -> dict[str, Any]:
    """{'a/b': array} to {'a': {'b': array}}."""
    return traverse_util.unflatten_dict(dict(flat), sep="/")


def arrays_by_name(tree: Any) -> dict[str, Any]:
    """The leaves of any tree by their places in it, 'a/b/0'."""
    return {name_of_path(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def name_of_path(path: Sequence[Any]) -> str:
    """JAX's path of a leaf as a name, 'a/b/0'."""
    return "/".join(str(getattr(key, "key", getattr(key, "name", getattr(key, "idx", key)))) for key in path)


def get_name_tree(state_dict: StateDict, keep_empty_nodes: bool = False) -> dict[str, Any]:
    """The same tree with every array's name in its place."""
    flat = traverse_util.flatten_dict(state_dict, keep_empty_nodes=keep_empty_nodes)
    return traverse_util.unflatten_dict({path: "/".join(path) for path in flat})


def intersect_state(state_dict: StateDict, intersect_state_dict: StateDict) -> dict[str, Any]:
    """The arrays of the first whose names the second has."""
    kept = flatten_state_dict(intersect_state_dict)
    return unflatten_state_dict(
        {name: leaf for name, leaf in flatten_state_dict(state_dict).items() if name in kept}
    )


def merge_state(
    state_dict: StateDict, from_scratch_state: StateDict, overwrite: bool = False
) -> dict[str, Any]:
    """The arrays of both; where both have one, the first's, or with `overwrite` the second's."""
    first, second = flatten_state_dict(state_dict), flatten_state_dict(from_scratch_state)
    return unflatten_state_dict({**first, **second} if overwrite else {**second, **first})


def apply_assignment_map(
    ckpt_optimizer_state: StateDict,
    optimizer_state: StateDict,
    assignment_map: Sequence[tuple[str, str | None]],
    require_all_rules_match: bool = True,
    *,
    is_resuming: bool = False,
) -> StateDict:
    """The checkpoint's state under the model's names.

    An array of the model whose whole name fits a pattern gets the checkpoint's array that the replacement names; with
    the replacement None it gets none. One that fits no pattern gets that of its own name. What the checkpoint has under
    names that no replacement took stays.

    Args:
      ckpt_optimizer_state: the checkpoint's state.
      optimizer_state: the model's, of which only the names count.
      assignment_map: (pattern, replacement) pairs; the first pattern that fits counts, its groups can be used as in
        `re.Match.expand`.
      require_all_rules_match: whether a pattern that nothing fits is an error.
      is_resuming: whether a run goes on from its own checkpoint, which has the model's names already.

    Raises:
      ValueError: for an array that the checkpoint does not have, or a pattern that nothing fits.
    """
    if is_resuming:
        return ckpt_optimizer_state
    saved, used = flatten_state_dict(ckpt_optimizer_state), set()
    assigned, taken, left_out = {}, set(), set()
    for name in flatten_state_dict(optimizer_state):
        pattern, replacement = next(
            ((p, r) for p, r in assignment_map if re.fullmatch(p, name)), (None, None)
        )
        if pattern is None:
            continue
        used.add(pattern)
        if replacement is None:
            left_out.add(name)
            continue
        source = re.fullmatch(pattern, name).expand(replacement)
        if source not in saved:
            raise ValueError(
                f"assignment_map gives {name} the checkpoint's {source}, which is not there{nearest(source, saved)}."
            )
        assigned[name] = saved[source]
        taken.add(source)
    unused = [pattern for pattern, _ in assignment_map if pattern not in used]
    if require_all_rules_match and unused:
        raise ValueError(
            f"assignment_map's {', '.join(map(repr, unused))} fits no array of the model; patterns are matched against whole "
            "names such as 'target/encoder/encoder_norm/scale'."
        )
    named_alike = {name for name in flatten_state_dict(optimizer_state) if name not in assigned}
    rest = {
        name: leaf
        for name, leaf in saved.items()
        if name not in left_out and (name not in taken or name in named_alike)
    }
    return unflatten_state_dict({**rest, **assigned})
