"""Checkpoints by folder and step: which there are, and one's arrays without a model."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from etils import epath

from stepdistill_jax.base import checkpoint_folders
from stepdistill_jax.engine.checkpoint import checksums, saved_checkpoint
from stepdistill_jax.engine.checkpoint.checkpoint_config import (
    RestoreCheckpointConfig,
    RestoreStateTransformationFn,
)
from stepdistill_jax.engine.checkpoint.state_utils import flatten_state_dict, unflatten_state_dict

all_steps = saved_checkpoint.checkpoint_steps


def latest_step(checkpoints_dir: str | os.PathLike[str]) -> int | None:
    """The step of the newest checkpoint in a folder, or None."""
    return max(all_steps(checkpoints_dir), default=None)


def get_checkpoint_dir(checkpoints_dir: str | os.PathLike[str], step: int) -> str:
    """checkpoints_dir/checkpoint_<step>."""
    return os.path.join(checkpoints_dir, checkpoint_folders.name_of(step))


def find_checkpoints(cfg: RestoreCheckpointConfig) -> list[epath.Path]:
    """The folders of the checkpoints that `cfg` names; none if it names no path.

    Raises:
      FileNotFoundError: if there is none where it names one.
    """
    if cfg.mode == "specific" or not cfg.paths:
        return [epath.Path(path) for path in cfg.paths]
    for path in cfg.paths:
        if steps := all_steps(path):
            newest = steps if cfg.mode == "all" else steps[-1:]
            return [epath.Path(get_checkpoint_dir(path, step)) for step in newest]
    raise FileNotFoundError(
        f"No checkpoint_<step> in {' or '.join(cfg.paths)}; train first, or name another folder (a checkpoint itself "
        "with mode='specific')."
    )


def find_checkpoint(cfg: RestoreCheckpointConfig) -> epath.Path | None:
    """The folder of the one checkpoint that `cfg` names, or None if it names no path.

    Raises:
      FileNotFoundError: if it is not there.
      ValueError: if `cfg` names several.
    """
    paths = find_checkpoints(cfg)
    if len(paths) > 1:
        raise ValueError(
            f"RestoreCheckpointConfig names {len(paths)} checkpoints, {paths[0]} to {paths[-1]}; this needs one: use "
            "mode='latest', or mode='specific' with one path."
        )
    if paths:
        saved_checkpoint.open_checkpoint(paths[0])
    return paths[0] if paths else None


def load_t5x_checkpoint(
    path: str | os.PathLike[str],
    step: int | None = None,
    state_transformation_fns: Sequence[RestoreStateTransformationFn] = (),
    remap: bool = True,
    restore_dtype: Any = None,
    lazy_parameters: bool = False,
    *,
    verify: bool = True,
) -> dict[str, Any]:
    """A checkpoint's arrays as a nested dictionary, {'target': …, 'state': …}, without a model. T5X's arguments.

    Args:
      path: a checkpoint, or the folder of several.
      step: which of several; None is the newest.
      state_transformation_fns: change the arrays' names, if `remap` is set.
      restore_dtype: of the parameters; None leaves theirs.
      lazy_parameters: gives TensorStore arrays, which are read by `.read().result()`, all or sliced.
      verify: whether the files are compared with the checkpoint's checksums first. T5X has no such argument.

    Raises:
      ValueError: names every file that is not as it was saved, or array that cannot be read.
    """
    if steps := all_steps(path):
        path = get_checkpoint_dir(path, steps[-1] if step is None else step)
    if verify:
        checksums.check(path)
    state = unflatten_state_dict(saved_checkpoint.open_checkpoint(path).arrays())
    for transform in state_transformation_fns if remap else ():
        state = transform(state, {})
    if lazy_parameters:
        return state
    arrays = {name: np.asarray(array) for name, array in flatten_state_dict(state).items()}
    if restore_dtype is not None:
        arrays = {
            name: array.astype(restore_dtype) if name.startswith(saved_checkpoint.PARAMETERS) else array
            for name, array in arrays.items()
        }
    return unflatten_state_dict(arrays)
