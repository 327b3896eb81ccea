"""Saved metrics of runs or of a sweep -> tables, figures and one HTML page. Reads files only; loads no model.

Importing this opens nothing; the report of a run does without numpy and scipy, which that of a sweep reads.
"""

import importlib
from typing import Any

_LAZY = {
    "is_sweep": "sweep.folder",
    "write_report": "runs.page",
    "write_sweep_report": "sweep.page",
}

__all__ = [*_LAZY]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(f"stepdistill_jax.report.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
