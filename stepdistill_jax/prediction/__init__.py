"""A trained student answers texts, without TensorFlow: what a run needs for it lies in the run, as data."""

import importlib
from typing import Any

_LAZY = {"Prediction": "predictor", "Predictor": "predictor", "Student": "portable", "load": "portable"}

__all__ = ["Prediction", "Predictor", "Student", "load"]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(f"stepdistill_jax.prediction.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
