"""Checkpoints with Orbax: saved in the background, atomically, the train state and the stream's position together."""

import dataclasses
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp

from stepdistill_jax.engine.partitioning import PjitPartitioner
from stepdistill_jax.engine.train_state import FlaxOptimTrainState

_DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16, "float16": jnp.float16}
_STEP_FOLDER = re.compile(r"checkpoint_(\d+)$")


@dataclasses.dataclass
class SaveCheckpointConfig:
    """When to save, and what to keep. T5X's names and defaults.

    Attributes:
      dtype: of the saved parameters, 'float32' or 'bfloat16'. The optimizer's state stays as it is.
      period: steps between checkpoints; None saves at the end only.
      keep: how many of the newest to keep; None keeps all.
      save_dataset: taken for T5X's sake; the stream's position is always saved.
    """

    dtype: str = "float32"
    period: int | None = None
    keep: int | None = None
    save_dataset: bool = True

    def __post_init__(self) -> None:
        if self.dtype not in ("float32", "bfloat16"):
            raise ValueError(f"SaveCheckpointConfig.dtype={self.dtype!r}; use 'float32' or 'bfloat16'.")


@dataclasses.dataclass
class RestoreCheckpointConfig:
    """Where to begin. T5X's names and defaults.

    Attributes:
      path: a checkpoint's folder (mode 'specific'), or the folder that holds checkpoints (mode 'latest').
      mode: 'specific' or 'latest'.
      dtype: to give the parameters; None keeps the saved one.
    """

    path: str
    mode: str = "latest"
    dtype: str | None = None

    def __post_init__(self) -> None:
        if self.mode not in ("specific", "latest"):
            raise ValueError(f"RestoreCheckpointConfig.mode={self.mode!r}; use 'specific' or 'latest'.")
        if self.dtype is not None and self.dtype not in _DTYPES:
            raise ValueError(
                f"RestoreCheckpointConfig.dtype={self.dtype!r}; use one of {', '.join(_DTYPES)}, or None."
            )


@dataclasses.dataclass
class CheckpointConfig:
    """How a run saves, and what it begins with; either may be None."""

    save: SaveCheckpointConfig | None = None
    restore: RestoreCheckpointConfig | None = None


@dataclasses.dataclass(frozen=True)
class StreamPosition:
    """Where the training stream goes on: the run's seed and the next draw."""

    seed: int
    next_draw: int


class RunCheckpoints:
    """The checkpoints of one run: MODEL_DIR/checkpoint_<step>."""

    def __init__(self, model_dir: str | os.PathLike[str], cfg: SaveCheckpointConfig) -> None:
        self._cfg = cfg
        self._manager = ocp.CheckpointManager(
            Path(model_dir).absolute(),
            options=ocp.CheckpointManagerOptions(
                max_to_keep=cfg.keep,
                step_prefix="checkpoint",
                enable_async_checkpointing=True,
            ),
            item_names=("state", "stream"),
        )

    def save(self, step: int, train_state: FlaxOptimTrainState, position: StreamPosition) -> None:
        """Copies the state to the host and returns; writing goes on behind. An earlier save's failure is raised here."""
        state = train_state.state_dict()
        state["target"] = _cast_floats(state["target"], self._cfg.dtype)
        self._manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.PyTreeSave(state),
                stream=ocp.args.JsonSave(dataclasses.asdict(position)),
            ),
        )

    def latest_step(self) -> int | None:
        """The newest checkpoint that was written whole, or None."""
        return self._manager.latest_step()

    def restore_stream(self, step: int) -> StreamPosition:
        """The stream's position that was saved after `step`."""
        restored = self._manager.restore(step, args=ocp.args.Composite(stream=ocp.args.JsonRestore()))
        return StreamPosition(**restored["stream"])

    def close(self) -> None:
        """Waits for the last save; raises what went wrong in it."""
        self._manager.wait_until_finished()
        self._manager.check_for_errors()
        self._manager.close()


def find_checkpoint(cfg: RestoreCheckpointConfig) -> Path:
    """The folder of the checkpoint that `cfg` names.

    Raises:
      FileNotFoundError: if there is none, or it was not written whole.
    """
    path = Path(cfg.path).absolute()
    if cfg.mode == "latest":
        steps = {
            int(match[1]): folder
            for folder in path.glob("checkpoint_*")
            if (match := _STEP_FOLDER.search(folder.name))
        }
        if not steps:
            raise FileNotFoundError(f"No checkpoint_<step> in {path}; train first, or name another folder.")
        return steps[max(steps)]
    if not path.is_dir():
        near = sorted(str(folder.name) for folder in path.parent.glob("checkpoint_*"))
        raise FileNotFoundError(f"No checkpoint at {path}; {path.parent} has {', '.join(near) or 'none'}.")
    return path


def restore_checkpoint(
    path: Path,
    train_state: FlaxOptimTrainState,
    partitioner: PjitPartitioner,
    *,
    params_only: bool = False,
    dtype: str | None = None,
) -> FlaxOptimTrainState:
    """The state saved at `path`, split over the mesh.

    Args:
      path: a checkpoint's folder, ours or one of T5X's Orbax layout.
      train_state: arrays or ShapeDtypeStructs of the state to restore into.
      partitioner: says how each array is split.
      params_only: reads parameters and step, and leaves `param_states` as it is in `train_state`.
      dtype: to give the parameters, default theirs in `train_state`.

    Raises:
      FileNotFoundError: if the folder is no checkpoint.
      ValueError: lists every parameter that is missing, unexpected or of another shape.
    """
    folder = path / "state"
    if not (folder / "_METADATA").exists():
        raise FileNotFoundError(
            f"{path} is not an Orbax checkpoint (no state/_METADATA); name a checkpoint_<step> folder."
        )
    handler = ocp.Checkpointer(ocp.PyTreeCheckpointHandler())
    wanted = _abstract_state(train_state, partitioner, dtype)
    if params_only:
        wanted["state"].pop("param_states")
    _check_same_arrays(wanted, handler.metadata(folder).item_metadata.tree, path=path, partial=params_only)
    state = handler.restore(
        folder,
        args=ocp.args.PyTreeRestore(
            item=wanted,
            restore_args=ocp.checkpoint_utils.construct_restore_args(wanted),
            partial_restore=params_only,
        ),
    )
    if params_only:
        return train_state.replace(step=state["state"]["step"], params=state["target"])
    return train_state.restore_state(state)


def _abstract_state(
    train_state: FlaxOptimTrainState, partitioner: PjitPartitioner, dtype: str | None
) -> dict[str, Any]:
    shardings = partitioner.shardings(partitioner.get_mesh_axes(train_state))
    state = jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        train_state,
        shardings,
    ).state_dict()
    if dtype is not None:
        state["target"] = jax.tree.map(lambda leaf: leaf.update(dtype=_DTYPES[dtype]), state["target"])
    return state


def _check_same_arrays(wanted: Any, saved: Any, *, path: Path, partial: bool) -> None:
    shape_of = {name: tuple(leaf.shape) for name, leaf in _named_leaves(wanted).items()}
    saved_shape_of = {name: tuple(leaf.shape) for name, leaf in _named_leaves(saved).items()}
    problems = [f"{name} is missing" for name in shape_of.keys() - saved_shape_of.keys()]
    if not partial:
        problems += [f"{name} is not in the model" for name in saved_shape_of.keys() - shape_of.keys()]
    problems += [
        f"{name} has shape {saved_shape_of[name]}, the model wants {shape}"
        for name, shape in shape_of.items()
        if saved_shape_of.get(name, shape) != shape
    ]
    if problems:
        raise ValueError(
            f"{path} does not fit the model, {len(problems)} arrays differ: {'; '.join(sorted(problems))}. Use the gin "
            "file of the model that was saved."
        )


def _named_leaves(tree: Any) -> Mapping[str, Any]:
    return {
        "/".join(
            str(getattr(key, "key", getattr(key, "name", getattr(key, "idx", key)))) for key in path
        ): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def _cast_floats(tree: Any, dtype: str) -> Any:
    return jax.tree.map(
        lambda leaf: leaf.astype(_DTYPES[dtype]) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf, tree
    )
