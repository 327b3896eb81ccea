"""T5X's name for what its gin files call `trainer.…`; each thing lives in a module that says what it is."""

from stepdistill_jax.engine.loop.actions import (
    ActionMode,
    BaseAction,
    EarlyStoppingAction,
    TerminateOnNanAction,
)
from stepdistill_jax.engine.step.trainer import Trainer, accumulate_gradients
from stepdistill_jax.engine.step.weight_metrics import WeightMetricsComputer

__all__ = [
    "ActionMode",
    "BaseAction",
    "EarlyStoppingAction",
    "TerminateOnNanAction",
    "Trainer",
    "WeightMetricsComputer",
    "accumulate_gradients",
]
