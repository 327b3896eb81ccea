"""A train state from a checkpoint: names and shapes are compared first, then each device reads its own slices."""

import collections
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tensorstore as ts

from stepdistill_jax.base.messages import say_once
from stepdistill_jax.engine.checkpoint import checksums, saved_checkpoint
from stepdistill_jax.engine.checkpoint.checkpoint_config import RestoreCheckpointConfig
from stepdistill_jax.engine.checkpoint.saved_checkpoint import PARAM_STATES, PARAMETERS, STEP
from stepdistill_jax.engine.checkpoint.stacked_checkpoints import is_stacked, unstack_layers
from stepdistill_jax.engine.checkpoint.state_mismatch import check_same_arrays, collapsed
from stepdistill_jax.engine.checkpoint.state_utils import (
    arrays_by_name,
    flatten_state_dict,
    name_of_path,
    unflatten_state_dict,
)
from stepdistill_jax.engine.cluster import exchange
from stepdistill_jax.engine.optim.train_state import FlaxOptimTrainState
from stepdistill_jax.engine.partition.partitioning import PjitPartitioner

# What is on its way from the disk to the devices at a time, in this process.
_BYTES_IN_FLIGHT = 2 * 2**30

# Gives the arrays of these names as a run from scratch begins with them.
FromScratch = Callable[[frozenset[str]], Mapping[str, jax.Array]]


def restore_checkpoint(
    path: str | os.PathLike[str],
    train_state: FlaxOptimTrainState,
    partitioner: PjitPartitioner,
    *,
    cfg: RestoreCheckpointConfig | None = None,
    from_scratch: FromScratch | None = None,
    params_only: bool = False,
    verify: bool = True,
) -> FlaxOptimTrainState:
    """The state saved at `path`, split over the mesh; says what restoring took, and what of it comparing checksums did.

    Args:
      path: a checkpoint's folder, of any layout that `saved_checkpoint` knows.
      train_state: arrays or ShapeDtypeStructs of the state to restore into.
      partitioner: says how each array is split.
      cfg: what may differ between the checkpoint and the state; None lets nothing differ, as for a run that goes on.
      from_scratch: gives what the checkpoint lacks, where `cfg` allows that.
      params_only: reads parameters and step, and leaves `param_states` as it is in `train_state`.
      verify: whether its files are compared with its checksums first, each by one of the run's hosts.

    Raises:
      FileNotFoundError: if the folder is no checkpoint.
      ValueError: lists every file that is not as it was saved; or every array that is missing, unexpected or of another
        shape, or cannot be read.
    """
    begin = time.monotonic()
    told = _compared(path, verify=verify)
    checkpoint = saved_checkpoint.open_checkpoint(path)
    tree = abstract_state_dict(train_state, partitioner, cfg.dtype if cfg else None)
    if params_only:
        tree["state"].pop("param_states")
    wanted = arrays_by_name(tree)
    saved = _arrays_of(checkpoint, tree, cfg, params_only=params_only)
    fresh = _to_be_fresh(checkpoint, wanted, saved, cfg) if from_scratch is not None else frozenset()
    check_same_arrays(
        {name: leaf for name, leaf in wanted.items() if name not in fresh},
        saved,
        path=checkpoint.path,
        unexpected_allowed=cfg is not None and not (cfg.strict and not cfg.state_transformation_fns),
        optimizer_too=cfg is None and not params_only,
    )
    found = {name: saved[name] for name in wanted if name not in fresh}
    arrays = read_onto_mesh(found, {name: wanted[name] for name in found}, path=checkpoint.path)
    if fresh:
        _say_what_is_fresh(checkpoint.path, fresh)
        first = from_scratch(fresh)
        arrays |= {name: first[name].astype(wanted[name].dtype) for name in fresh}
    state_dict = jax.tree_util.tree_map_with_path(lambda keys, _: arrays[name_of_path(keys)], tree)
    if jax.process_index() == 0:
        # `eval` restores it for the decoded answers, and again for the choices' scores.
        say_once(
            f"{checkpoint.path}: restored in {time.monotonic() - begin:.1f} s; {told}",
            about=f"restored {checkpoint.path}",
        )
    if params_only:
        return train_state.replace(step=state_dict["state"]["step"], params=state_dict["target"])
    return train_state.restore_state(state_dict)


def _compared(path: str | os.PathLike[str], *, verify: bool) -> str:
    """Compares a checkpoint's files with its checksums, all processes together, and says what came of it.

    Raises:
      ValueError: in every process, names the files that are not as they were saved.
    """
    told, problem = "", ""
    try:
        share = (jax.process_index(), jax.process_count())
        told = checksums.check_and_tell(path, verify=verify, share=share)
    except ValueError as error:
        problem = str(error)
    if problems := list(filter(None, exchange.from_all(problem))):
        raise ValueError(problems[0])
    return told


def read_onto_mesh(
    saved: Mapping[str, Any], wanted: Mapping[str, jax.ShapeDtypeStruct], *, path: str
) -> dict[str, jax.Array]:
    """Reads arrays, each device's slice once in this process and nothing else.

    Args:
      saved: name -> TensorStore array, or one in memory.
      wanted: name -> shape, dtype and sharding to read it with. Floats change their dtype while they are read.
      path: of the checkpoint, for errors.
    """
    arrays, problems = {}, []
    pending: collections.deque[tuple[str, dict, int]] = collections.deque()
    num_bytes = 0

    def finish_oldest() -> int:
        name, slices, size = pending.popleft()
        try:
            values = {index: future.result() for index, future in slices.items()}
        except (ValueError, OSError) as error:
            problems.append(f"{name} ({error})")
            return size
        leaf = wanted[name]
        arrays[name] = jax.make_array_from_callback(
            leaf.shape, leaf.sharding, lambda index: values[_bounds(index, leaf.shape)]
        )
        return size

    for name, leaf in wanted.items():
        slices = _start_reading(saved[name], leaf)
        size = sum(int(np.prod([stop - start for start, stop in index], dtype=np.int64)) for index in slices)
        size *= leaf.dtype.itemsize
        pending.append((name, slices, size))
        num_bytes += size
        while num_bytes > _BYTES_IN_FLIGHT:
            num_bytes -= finish_oldest()
    while pending:
        finish_oldest()
    if problems:
        raise saved_checkpoint.damaged(path, problems)
    return arrays


def _start_reading(array: Any, leaf: jax.ShapeDtypeStruct) -> dict[tuple, ts.Future]:
    """Bounds of a slice -> its values, on their way; one for each slice that this process's devices hold."""
    store = array if isinstance(array, ts.TensorStore) else ts.array(np.asarray(array))
    if store.dtype != ts.dtype(leaf.dtype):
        store = ts.cast(store, ts.dtype(leaf.dtype))
    indices = leaf.sharding.addressable_devices_indices_map(leaf.shape).values()
    return {
        bounds: store[tuple(slice(*ends) for ends in bounds)].read(order="C")
        for bounds in {_bounds(index, leaf.shape) for index in indices}
    }


def _bounds(index: tuple[slice, ...], shape: Sequence[int]) -> tuple[tuple[int, int], ...]:
    return tuple(s.indices(size)[:2] for s, size in zip(index, shape, strict=True))


def abstract_state_dict(
    train_state: FlaxOptimTrainState, partitioner: PjitPartitioner, dtype: str | None = None
) -> dict[str, Any]:
    """`train_state.state_dict()` of ShapeDtypeStructs that know their sharding, the parameters in `dtype` if it is given."""
    tree = partitioner.placed_shapes(train_state, partitioner.get_mesh_axes(train_state)).state_dict()
    if dtype is not None:
        tree["target"] = jax.tree.map(lambda leaf: leaf.update(dtype=jnp.dtype(dtype)), tree["target"])
    return tree


def _arrays_of(
    checkpoint: saved_checkpoint.SavedCheckpoint,
    tree: Mapping[str, Any],
    cfg: RestoreCheckpointConfig | None,
    *,
    params_only: bool,
) -> dict[str, Any]:
    """The checkpoint's arrays under the model's names, not yet read."""
    transformations = cfg.state_transformation_fns if cfg else ()
    if params_only and not transformations:
        arrays = {**checkpoint.arrays(PARAMETERS), **checkpoint.arrays(STEP)}
    else:
        arrays = checkpoint.arrays()
    state_dict = unflatten_state_dict(arrays)
    if is_stacked(state_dict):
        state_dict = _unstacked(state_dict, checkpoint.path, may_drop=bool(cfg and cfg.fallback_to_scratch))
    for transform in transformations:
        state_dict = transform(state_dict, tree)
    return flatten_state_dict(state_dict)


def _unstacked(state_dict: dict[str, Any], path: str, *, may_drop: bool) -> dict[str, Any]:
    """A state whose layers T5X's scalable_t5 has stacked, with each apart; without the optimizer's if it must and may."""
    try:
        return unstack_layers(state_dict)
    except ValueError as error:
        if not may_drop:
            raise ValueError(
                f"{path}: {error} RestoreCheckpointConfig.fallback_to_scratch = True begins the optimizer afresh."
            ) from error
        state = {name: leaf for name, leaf in state_dict["state"].items() if name != "param_states"}
        return unstack_layers({**state_dict, "state": state})


def _to_be_fresh(
    checkpoint: saved_checkpoint.SavedCheckpoint,
    wanted: Mapping[str, Any],
    saved: Mapping[str, Any],
    cfg: RestoreCheckpointConfig | None,
) -> frozenset[str]:
    """What begins with its first value: all that is missing if the user says so, else a whole optimizer at most."""
    missing = frozenset(name for name in wanted if name not in saved)
    if cfg is not None and cfg.fallback_to_scratch:
        return missing
    # A checkpoint of parameters alone was made to begin with.
    if cfg is not None and not any(name.startswith(PARAM_STATES) for name in checkpoint.names):
        return frozenset(name for name in missing if name.startswith(PARAM_STATES))
    return frozenset()


def _say_what_is_fresh(path: str, fresh: frozenset[str]) -> None:
    of_optimizer = {name for name in fresh if name.startswith(PARAM_STATES)}
    others = ", ".join(collapsed(fresh - of_optimizer))
    parts = [f"{len(of_optimizer)} of the optimizer"] * bool(of_optimizer) + [others] * bool(others)
    say_once(f"{path} lacks {len(fresh)} arrays, which begin with their first values: {', '.join(parts)}.")
