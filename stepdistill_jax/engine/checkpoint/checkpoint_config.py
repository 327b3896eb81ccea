"""When a run saves, what it keeps, and what it begins with: T5X's names and defaults, as gin binds them."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

from stepdistill_jax.base.messages import nearest
from stepdistill_jax.engine.checkpoint.state_utils import apply_assignment_map

AssignmentMap = Sequence[tuple[str, str | None]]
# (state_dict, names of its arrays) -> both, changed; T5X gives a tree of its own records in place of the names.
SaveStateTransformationFn = Callable[[Any, Any], tuple[Any, Any]]
# (the checkpoint's state_dict, the model's) -> the checkpoint's, changed. Leaves are TensorStore arrays, not yet read.
RestoreStateTransformationFn = Callable[[Any, Any], Any]

_RESTORE_DTYPES = ("float32", "bfloat16", "float16")
_MODES = ("specific", "latest", "all")


@dataclasses.dataclass
class Checkpointer:
    """T5X's name for the plain rule: keep the newest.

    Attributes:
      keep: how many; None leaves it to SaveCheckpointConfig.
      keep_dataset_checkpoints: taken for T5X's sake; the stream's position is an integer in every checkpoint.
    """

    keep: int | None = None
    keep_dataset_checkpoints: int | None = None


@dataclasses.dataclass
class SaveBestCheckpointer:
    """T5X's name for the rule that keeps the best checkpoints by a metric, and always the newest.

    Attributes:
      keep: how many of the best, beside the newest; None leaves it to SaveCheckpointConfig.
      metric_name_to_monitor: 'train/<metric>', 'training_eval/<task>/<metric>' or
        'inference_eval/<task>/eval/<metric>', of the step that is saved.
      metric_mode: 'max' or 'min': which is better.
      keep_checkpoints_without_metrics: whether those saved at a step without the metric stay.
      force_keep_period: checkpoints of its multiples stay whatever their metric.
      keep_dataset_checkpoints: taken for T5X's sake.
    """

    keep: int | None = None
    metric_name_to_monitor: str | None = "train/accuracy"
    metric_mode: str = "max"
    keep_checkpoints_without_metrics: bool = True
    force_keep_period: int | None = None
    keep_dataset_checkpoints: int | None = None

    def __post_init__(self) -> None:
        if self.metric_mode not in ("max", "min"):
            raise ValueError(f"{type(self).__name__}.metric_mode={self.metric_mode!r}; use 'max' or 'min'.")
        if self.force_keep_period is not None and self.force_keep_period < 1:
            raise ValueError(
                f"{type(self).__name__}.force_keep_period={self.force_keep_period}; use 1 or more, or None."
            )


@dataclasses.dataclass
class OrbaxCheckpointManagerInterface(SaveBestCheckpointer):
    """T5X's name for the same rules; without a metric the newest are kept."""

    metric_name_to_monitor: str | None = None


@dataclasses.dataclass
class SaveCheckpointConfig:
    """When to save, and what to keep. T5X's names and defaults.

    Attributes:
      dtype: of the saved parameters, 'float32' or 'bfloat16'; None is theirs. The optimizer's state stays as it is.
      period: steps between checkpoints; None saves at the end only.
      checkpoint_steps: steps to save at beside those of `period`.
      keep: how many of the newest (of the best, with a metric) to keep; None keeps all. A file PINNED in a checkpoint's
        folder keeps it as well.
      keep_dataset_checkpoints, save_dataset: taken for T5X's sake; the stream's position is always saved.
      checkpointer_cls: `Checkpointer`, or `SaveBestCheckpointer` to keep the best.
      state_transformation_fns: change what is saved, in this order.
      checkpoint_manager_cls: another place for the rules of `SaveBestCheckpointer`.
    """

    dtype: str | None = "float32"
    period: int | None = None
    checkpoint_steps: Sequence[int] | None = None
    keep: int | None = None
    keep_dataset_checkpoints: int | None = None
    save_dataset: bool = False
    checkpointer_cls: Callable[..., Any] = Checkpointer
    state_transformation_fns: Sequence[SaveStateTransformationFn] = dataclasses.field(default_factory=list)
    checkpoint_manager_cls: Callable[..., Any] = OrbaxCheckpointManagerInterface

    def __post_init__(self) -> None:
        if self.dtype not in (None, "float32", "bfloat16"):
            raise ValueError(
                f"SaveCheckpointConfig.dtype={self.dtype!r}; use 'float32' or 'bfloat16', or None."
            )
        for name in ("period", "keep"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"SaveCheckpointConfig.{name}={value}; use 1 or more, or None.")

    def keeping_rules(self) -> SaveBestCheckpointer:
        """The rules of `checkpointer_cls` if it has a metric, else those of `checkpoint_manager_cls`; `keep` filled in.

        Raises:
          ValueError: if neither class is one of ours.
        """
        made = [self.checkpointer_cls(), self.checkpoint_manager_cls()]
        for name, rules in zip(("checkpointer_cls", "checkpoint_manager_cls"), made, strict=True):
            if not isinstance(rules, Checkpointer | SaveBestCheckpointer):
                raise ValueError(
                    f"SaveCheckpointConfig.{name}={type(rules).__name__}; use checkpoints.Checkpointer, "
                    "checkpoints.SaveBestCheckpointer or checkpoints.OrbaxCheckpointManagerInterface."
                )
        first = made[0] if isinstance(made[0], SaveBestCheckpointer) else made[1]
        keep = next((k for k in (self.keep, *(rules.keep for rules in made)) if k is not None), None)
        if not isinstance(first, SaveBestCheckpointer):
            return OrbaxCheckpointManagerInterface(keep=keep)
        return dataclasses.replace(first, keep=keep)


@dataclasses.dataclass
class RestoreCheckpointConfig:
    """Where to begin. T5X's names and defaults.

    Attributes:
      path: a checkpoint's folder (mode 'specific'), or the folder that holds checkpoints ('latest', 'all'), or several:
        then the first that holds any. None and [] are no checkpoint.
      mode: 'specific'; 'latest', the newest in `path`; or 'all' in it, one after another, which evaluation can.
      assignment_map: (regex, replacement) pairs. The first regex that fits the whole of an array's name in the model
        gives its name in the checkpoint; None as replacement leaves it out, for `fallback_to_scratch` to fill in.
      strict: whether parameters in the checkpoint that the model lacks are an error, as long as neither
        `assignment_map` nor `state_transformation_fns` is given (T5X leaves them out without a word).
      fallback_to_scratch: whether arrays that the checkpoint lacks get their first values, as in a run from scratch.
      dtype: to give the parameters; None keeps the model's.
      restore_dataset: whether the stream goes on where the checkpoint's run had come to, with its seed.
      checkpointer_cls, checkpoint_manager_cls: taken for T5X's sake; the layout is told by the files.
      state_transformation_fns: change the checkpoint's state_dict before it is read, after `assignment_map`.
      verify: whether its files are compared with its checksums before they are read. T5X has no such setting.
    """

    path: str | Sequence[str] | None
    mode: str = "latest"
    assignment_map: AssignmentMap | None = None
    strict: bool = True
    fallback_to_scratch: bool = False
    dtype: str | None = None
    restore_dataset: bool = False
    checkpointer_cls: Callable[..., Any] = Checkpointer
    state_transformation_fns: Sequence[RestoreStateTransformationFn] = ()
    checkpoint_manager_cls: Callable[..., Any] = OrbaxCheckpointManagerInterface
    verify: bool = True

    def __post_init__(self) -> None:
        if self.mode not in _MODES:
            raise ValueError(
                f"RestoreCheckpointConfig.mode={self.mode!r}{nearest(str(self.mode), _MODES)}; use 'specific', 'latest' "
                "or 'all'."
            )
        if self.dtype is not None and self.dtype not in _RESTORE_DTYPES:
            raise ValueError(
                f"RestoreCheckpointConfig.dtype={self.dtype!r}; use one of {', '.join(_RESTORE_DTYPES)}, or None."
            )
        if self.assignment_map is not None:
            assign = functools.partial(apply_assignment_map, assignment_map=self.assignment_map)
            self.state_transformation_fns = (assign, *self.state_transformation_fns)

    @property
    def paths(self) -> list[str]:
        """`path` as a list, which is empty where there is none."""
        return [self.path] if isinstance(self.path, str) else [str(path) for path in self.path or ()]


@dataclasses.dataclass
class CheckpointConfig:
    """How a run saves, and what it begins with; either may be None.

    Attributes:
      verify: whether a checkpoint's files are compared with its checksums before a run goes on from it, or begins with
        it. T5X has no such setting.
    """

    save: SaveCheckpointConfig | None = None
    restore: RestoreCheckpointConfig | None = None
    verify: bool = True
