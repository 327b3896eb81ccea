"""What may stop a run: T5X's actions (`t5x.trainer`), run after training steps and after both kinds of evaluation."""

import abc
import enum
import math
import numbers
from collections.abc import Mapping, Sequence
from typing import Any

import clu.values
import jax
import numpy as np
from jax.experimental import multihost_utils

from stepdistill_jax.base.messages import nearest, say_once
from stepdistill_jax.engine.model.metrics import metric_values, set_step_metrics_num_steps

MetricsByTask = Mapping[str, Mapping[str, Any]]

# The task under which T5X files the metrics of training steps.
TRAIN_METRIC_KEY = "train"


@enum.unique
class ActionMode(enum.Enum):
    """After what an action runs: training steps, teacher-forced evaluation, decoded evaluation."""

    TRAIN = 1
    TRAIN_EVAL = 2
    INFER_EVAL = 3


class BaseAction(abc.ABC):
    """An action looks at the state and the metrics, and says whether to stop."""

    @abc.abstractmethod
    def run(self, train_state: Any, metrics_by_task: MetricsByTask) -> bool:
        """True to stop training.

        Args:
          train_state: after the step that the metrics are of.
          metrics_by_task: task -> metric -> value; the task of training steps is 'train'.
        """


def _value(action: BaseAction, metrics_by_task: MetricsByTask, task: str, metric: str) -> float | None:
    """The metric's value; None, with a line that says why, where it is not there or is no number."""
    name = type(action).__name__
    if task not in metrics_by_task:
        say_once(f"{name} does nothing: no metrics of a task '{task}'{nearest(task, metrics_by_task)}.")
        return None
    metrics = metrics_by_task[task]
    if metric not in metrics:
        say_once(f"{name} does nothing: '{task}' has no metric '{metric}'{nearest(metric, metrics)}.")
        return None
    value = metrics[metric]
    value = value.value if isinstance(value, clu.values.Scalar) else value
    if not (isinstance(value, numbers.Real) or getattr(value, "shape", None) == ()):
        say_once(f"{name} does nothing: metric '{metric}' of '{task}' is no number but {value!r}.")
        return None
    return float(value)


class EarlyStoppingAction(BaseAction):
    """Stops when a metric has not improved from one look to the next, `patience` looks on end."""

    def __init__(
        self, metric: tuple[str, str], mode: str, patience: int = 3, atol: float = 0.0, rtol: float = 0.0
    ) -> None:
        """Takes T5X's arguments.

        Args:
          metric: (task, metric), e.g. ('svamp_label', 'accuracy').
          mode: 'min' or 'max': which way is better.
          patience: looks in which no one is better than the one before it; 1 is as 2, which T5X stops at the first look for.
          atol, rtol: a change of at most atol + rtol · |previous value| does not count as an improvement.
        """
        self._task, self._metric = metric
        if mode not in ("min", "max"):
            raise ValueError(f"EarlyStoppingAction.mode={mode!r}; use 'min' or 'max'.")
        if atol < 0 or rtol < 0:
            raise ValueError(f"EarlyStoppingAction.atol={atol}, rtol={rtol}; use 0 or more.")
        # The first look has nothing to be compared with, whatever the patience.
        self._mode, self._patience, self._atol, self._rtol = mode, max(patience, 2), atol, rtol
        self._history: list[float] = []

    def _is_no_better(self, current: float, previous: float) -> bool:
        tolerance = self._atol + self._rtol * abs(previous)
        if self._mode == "min":
            return current >= previous - tolerance
        return current <= previous + tolerance

    def run(self, train_state: Any, metrics_by_task: MetricsByTask) -> bool:
        value = _value(self, metrics_by_task, self._task, self._metric)
        if value is None:
            return False
        self._history.append(value)
        if len(self._history) < self._patience:
            return False
        pairs = zip(self._history[1:], self._history[: self._patience - 1], strict=False)
        if all(self._is_no_better(current, previous) for current, previous in pairs):
            say_once(
                f"Stopping: {self._metric} of {self._task} has not improved {self._patience} times: {self._history}."
            )
            return True
        self._history.pop(0)
        return False


class TerminateOnNanAction(BaseAction):
    """Stops when a metric is not finite."""

    def __init__(self, task: str, metric: str = "loss") -> None:
        self._task, self._metric = task, metric

    def run(self, train_state: Any, metrics_by_task: MetricsByTask) -> bool:
        value = _value(self, metrics_by_task, self._task, self._metric)
        if value is None or math.isfinite(value):
            return False
        say_once(f"Stopping: {self._metric} of {self._task} is {value}.")
        return True


class RunActions:
    """The actions of a run, by what they follow."""

    def __init__(
        self, actions: Mapping[str, Sequence[BaseAction]] | None, *, train_period: int | None = None
    ) -> None:
        """Takes what gin binds as `train.actions`.

        Args:
          actions: the name of an `ActionMode` -> actions.
          train_period: training steps whose metrics the actions of TRAIN see averaged.

        Raises:
          ValueError: for a mode that there is not.
        """
        unknown = set(actions or ()) - set(ActionMode.__members__)
        if unknown:
            mode = sorted(unknown)[0]
            raise ValueError(
                f"train.actions has a mode '{mode}'{nearest(mode, ActionMode.__members__)}; there are "
                f"{', '.join(ActionMode.__members__)}."
            )
        self._actions = {ActionMode[mode]: list(of_mode) for mode, of_mode in (actions or {}).items()}
        self._train_period = max(train_period or 1, 1)
        self._merged: dict[str, Any] = {}
        self._num_merged = 0

    def run(self, mode: ActionMode, train_state: Any, metrics_by_task: MetricsByTask) -> bool:
        """Runs every action of a mode on the first host; True, on all hosts, if one of them wants to stop."""
        actions = self._actions.get(mode)
        if not actions:
            return False
        stop = jax.process_index() == 0 and any(
            [
                action.run(train_state, metrics_by_task) for action in actions
            ]  # each of them, whatever the others say
        )
        return bool(multihost_utils.broadcast_one_to_all(np.bool_(stop))) if jax.process_count() > 1 else stop

    def after_step(self, step: int, train_state: Any, metrics: Mapping[str, Any]) -> bool:
        """Takes a training step's metrics; every `train_period` steps runs the actions of TRAIN on those steps' mean."""
        if not self._actions.get(ActionMode.TRAIN):
            return False
        merged = self._merged
        self._merged = {n: merged[n].merge(m) for n, m in metrics.items()} if merged else dict(metrics)
        self._num_merged += 1
        if step % self._train_period:
            return False
        values = metric_values(set_step_metrics_num_steps(self._merged, self._num_merged))
        self._merged, self._num_merged = {}, 0
        return self.run(ActionMode.TRAIN, train_state, {TRAIN_METRIC_KEY: values})
