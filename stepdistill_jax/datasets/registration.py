"""Making a dataset known: to the command line by its name, and to SeqIO by its tasks."""

import contextlib
from collections.abc import Iterator

from stepdistill_jax.datasets import registry
from stepdistill_jax.datasets.dataset import Dataset

_without_tasks: list[Dataset] = []
_describes_only = False


def register(dataset: Dataset) -> Dataset:
    """Makes a dataset known to the command line, and registers its SeqIO tasks and mixtures. Returns it.

    Raises:
      ValueError: if another dataset has the name.
    """
    if dataset.name in registry.names():
        first = getattr(registry.get(dataset.name).to_example, "__module__", "another module")
        raise ValueError(f"Dataset '{dataset.name}' is registered already, by {first}; choose another name.")
    if _describes_only:
        _without_tasks.append(dataset)
    else:
        _register_tasks(dataset)
    registry.add(dataset)
    return dataset


@contextlib.contextmanager
def descriptions_only() -> Iterator[None]:
    """Registers no SeqIO tasks, which takes TensorFlow: for what needs to know of datasets, not to read them."""
    global _describes_only
    before, _describes_only = _describes_only, True
    try:
        yield
    finally:
        _describes_only = before


def register_waiting_tasks() -> None:
    """Registers the SeqIO tasks of all datasets that were registered without."""
    while _without_tasks:
        _register_tasks(_without_tasks.pop(0))


def _register_tasks(dataset: Dataset) -> None:
    from stepdistill_jax.datasets import seqio_tasks

    seqio_tasks.register_tasks(dataset)
