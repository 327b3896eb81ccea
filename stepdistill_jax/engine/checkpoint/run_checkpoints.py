"""The checkpoints of a run, with Orbax: written in the background, atomically, and kept by rules."""

import contextlib
import dataclasses
import functools
import logging
import math
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import (
    AnyPreservationPolicy,
    BestN,
    EveryNSteps,
    LatestN,
    PolicyCheckpointInfo,
    PreservationContext,
    PreservationPolicy,
)

from stepdistill_jax.base import checkpoint_folders
from stepdistill_jax.base.messages import nearest
from stepdistill_jax.engine.checkpoint import checksums
from stepdistill_jax.engine.checkpoint.checkpoint_config import SaveBestCheckpointer, SaveCheckpointConfig
from stepdistill_jax.engine.checkpoint.state_utils import get_name_tree
from stepdistill_jax.engine.checkpoint.summed_saves import SummedPath, SummedPyTreeHandler
from stepdistill_jax.engine.optim.train_state import FlaxOptimTrainState

# In a checkpoint's folder, this file keeps it from being deleted; T5X's name.
_PINNED = "PINNED"
_CHUNK_BYTES = 64 * 2**20


@dataclasses.dataclass(frozen=True)
class StreamPosition:
    """Where the training stream goes on: the run's seed and the next draw."""

    seed: int
    next_draw: int


class RunCheckpoints:
    """The checkpoints of one run: MODEL_DIR/checkpoint_<step>."""

    def __init__(self, model_dir: str | os.PathLike[str], cfg: SaveCheckpointConfig) -> None:
        self._cfg, self._rules = cfg, cfg.keeping_rules()
        self._folder = Path(model_dir).absolute()
        self._saving: int | None = None

    @functools.cached_property
    def _manager(self) -> ocp.CheckpointManager:
        """Made when it is first wanted, on every host at once: it makes the folder, and clears away what saves left torn."""
        logging.getLogger("absl").addFilter(_is_not_orbax_error)
        metric = self._rules.metric_name_to_monitor
        handlers = ocp.handlers.DefaultCheckpointHandlerRegistry()
        handlers.add("state", ocp.args.PyTreeSave, SummedPyTreeHandler())
        handlers.add("stream", ocp.args.JsonSave, ocp.JsonCheckpointHandler())
        return ocp.CheckpointManager(
            self._folder,
            options=ocp.CheckpointManagerOptions(
                preservation_policy=_preservation_policy(self._folder, self._rules),
                # Makes Orbax keep the metric beside the checkpoint; the policy says what to do with it.
                best_fn=(lambda metrics: metrics[metric]) if metric else None,
                step_prefix="checkpoint",
                cleanup_tmp_directories=True,
                enable_async_checkpointing=True,
                temporary_path_class=SummedPath,
            ),
            handler_registry=handlers,
        )

    def open(self) -> None:
        """Makes the folder, and clears away what saves that were killed have left."""
        self._manager.all_steps()

    def save(
        self,
        step: int,
        train_state: FlaxOptimTrainState,
        position: StreamPosition,
        *,
        metrics: Mapping[str, float | None] | None = None,
    ) -> None:
        """Copies the state to the host and returns; writing goes on behind. An earlier save's failure is raised here.

        Args:
          metrics: those of this step, by the names that `metric_name_to_monitor` may have.

        Raises:
          OSError: if an earlier save, or the beginning of this one, failed.
          ValueError: if the metric to keep the best by is none of those of this step, though others of its kind are.
        """
        state_dict, names = train_state.state_dict(), None
        for transform in self._cfg.state_transformation_fns:
            state_dict, names = transform(state_dict, names or get_name_tree(state_dict))
        monitored = self._monitored(step, metrics or {})
        self._wait()
        self._saving = step
        try:
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.PyTreeSave(state_dict, save_args=_save_args(state_dict, self._cfg.dtype)),
                    stream=ocp.args.JsonSave(dataclasses.asdict(position)),
                ),
                metrics=monitored,
                force=True,
            )
        except (OSError, ValueError) as error:
            raise self._failure(error) from error

    def check(self) -> None:
        """Raises what went wrong in the background, once it has. Takes no time otherwise."""
        if self._saving is not None and not self._manager.is_saving_in_progress():
            self._wait()

    def latest_step(self) -> int | None:
        """The newest checkpoint that was written whole, or None."""
        return max(checkpoint_folders.steps_in(self._folder), default=None)

    def close(self) -> None:
        """Waits for the last save; raises what went wrong in it."""
        if "_manager" not in vars(self):
            return
        try:
            self._wait()
        finally:
            with contextlib.suppress(OSError, ValueError, RuntimeError):  # what _wait raised, once more
                self._manager.close()

    def _wait(self) -> None:
        """Waits for the save under way, and raises what went wrong in it, whatever that is."""
        try:
            self._manager.wait_until_finished()
            self._manager.check_for_errors()
        except Exception as error:
            raise self._failure(error) from error
        self._saving = None

    def _failure(self, error: Exception) -> OSError:
        folder = self._folder / checkpoint_folders.name_of(self._saving)
        cause = " ".join(str(error).split()) or type(error).__name__
        return OSError(
            f"{folder} could not be saved: {cause}. The run stops; started again, it goes on from the checkpoint before. "
            f"{_free_space(self._folder)}"
        )

    def _monitored(self, step: int, metrics: Mapping[str, float | None]) -> dict[str, float] | None:
        name = self._rules.metric_name_to_monitor
        if name is None or not metrics:
            return None
        value = metrics.get(name)
        of_its_kind = [other for other in metrics if other.split("/")[0] == name.split("/")[0]]
        if name not in metrics and of_its_kind:
            raise ValueError(
                f"metric_name_to_monitor={name!r} is not among the metrics of step {step}{nearest(name, of_its_kind)}."
            )
        return None if value is None or not math.isfinite(value) else {name: float(value)}


def _is_not_orbax_error(record: logging.LogRecord) -> bool:
    """False for Orbax's log of an error in a save, three tracebacks: `RunCheckpoints` raises it as one line."""
    is_its = f"{os.sep}orbax{os.sep}" in record.pathname and record.levelno >= logging.ERROR
    return not is_its or bool(os.environ.get("STEPDISTILL_DEBUG"))


def read_stream_position(path: str | os.PathLike[str], *, verify: bool = True) -> StreamPosition:
    """The stream's position in a checkpoint of ours.

    Args:
      verify: whether its files are compared with the checkpoint's checksums first.

    Raises:
      FileNotFoundError: if it has none, as T5X's have not.
      ValueError: names what is not as it was saved.
    """
    folder = Path(path).absolute() / "stream"
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{path} holds no position of the training stream; it was not saved by a run of ours: set "
            "RestoreCheckpointConfig.restore_dataset = False."
        )
    if verify:
        checksums.check(path, below="stream/")
    return StreamPosition(**ocp.Checkpointer(ocp.JsonCheckpointHandler()).restore(folder))


def _save_args(state_dict: Mapping[str, Any], dtype: str | None) -> Any:
    """What Orbax does to each array on the host: the parameters' floats become `dtype`, and no chunk is too large.

    A chunk is read whole, so its size is what reading any slice takes; Orbax's own are as large as a device's part.
    """

    def args(keys: Sequence[Any], leaf: Any) -> ocp.SaveArgs:
        is_parameter = keys[0].key == "target" and jnp.issubdtype(leaf.dtype, jnp.floating)
        return ocp.SaveArgs(
            dtype=jnp.dtype(dtype) if dtype and is_parameter else None, chunk_byte_size=_CHUNK_BYTES
        )

    return jax.tree_util.tree_map_with_path(args, state_dict)


def _preservation_policy(folder: Path, rules: SaveBestCheckpointer) -> PreservationPolicy:
    """The newest stays whatever the rules: a run goes on from it."""
    if rules.metric_name_to_monitor is None:
        policies: list[PreservationPolicy] = [LatestN(rules.keep)]
    else:
        best = BestN(
            get_metric_fn=lambda metrics: metrics[rules.metric_name_to_monitor],
            reverse=rules.metric_mode == "min",
            n=rules.keep,
            keep_checkpoints_without_metrics=rules.keep_checkpoints_without_metrics,
        )
        policies = [LatestN(1), best]
    if rules.force_keep_period:
        policies.append(EveryNSteps(rules.force_keep_period))
    return AnyPreservationPolicy([*policies, _Pinned(folder)])


@dataclasses.dataclass(frozen=True)
class _Pinned(PreservationPolicy):
    folder: Path

    def should_preserve(
        self, checkpoints: Sequence[PolicyCheckpointInfo], *, context: PreservationContext
    ) -> Sequence[bool]:
        return [
            (self.folder / checkpoint_folders.name_of(info.step) / _PINNED).exists() for info in checkpoints
        ]


def _free_space(folder: Path) -> str:
    try:
        free_bytes = shutil.disk_usage(folder).free
    except OSError:
        return f"{folder} cannot be reached."
    return f"Its disk has {free_bytes / 2**30:.1f} GiB free."
