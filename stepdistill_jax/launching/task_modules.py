"""The modules that register datasets and tasks: ours, and those that the user names."""

import importlib
import os
import sys

from stepdistill_jax.base import quiet
from stepdistill_jax.launching import own_tasks


def load_tasks(data_dir: str | os.PathLike[str] | None = None) -> None:
    """Makes all datasets known: our dataset files, the modules that $STEPDISTILL_TASKS names, and what DATA describes."""
    from stepdistill_jax.datasets import registration

    quiet.import_tensorflow()
    _import_modules()
    registration.register_waiting_tasks()
    registration.register_described(data_dir)


def load_descriptions() -> None:
    """As `load_tasks`, but of our datasets no SeqIO task is made, so that TensorFlow is not imported."""
    from stepdistill_jax.datasets import registration

    with registration.descriptions_only():
        _import_modules()


def own_modules() -> list[str]:
    """The modules that $STEPDISTILL_TASKS names."""
    return [module for module in os.environ.get("STEPDISTILL_TASKS", "").split(",") if module]


def _import_modules() -> None:
    named = own_modules()
    if named and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # a console script's path lacks it
    own_tasks.import_own_tasks()
    for module in named:
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise ValueError(
                f"STEPDISTILL_TASKS={module}: {error}; name a module of this folder or of PYTHONPATH."
            ) from error
