"""The modules that register tasks: ours, and those that the user names."""

import importlib
import os
import sys

from stepdistill_jax.base import quiet


def load_tasks() -> None:
    """Imports the package `tasks`, and the modules that $STEPDISTILL_TASKS names, so that all datasets are known."""
    quiet.import_tensorflow()
    importlib.import_module("tasks")
    for module in filter(None, os.environ.get("STEPDISTILL_TASKS", "").split(",")):
        if os.getcwd() not in sys.path:
            sys.path.append(os.getcwd())  # a console script's path lacks it
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise ValueError(
                f"STEPDISTILL_TASKS={module}: {error}; name a module of this folder or of PYTHONPATH."
            ) from error
