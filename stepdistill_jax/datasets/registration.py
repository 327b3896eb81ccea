"""Making a dataset known: to the command line by its name, and to SeqIO by its tasks."""

import contextlib
import os
from collections.abc import Iterator

from stepdistill_jax.base import quiet
from stepdistill_jax.base.messages import say_once
from stepdistill_jax.datasets import described, registry
from stepdistill_jax.datasets.dataset import Dataset

_without_tasks: list[Dataset] = []
_described: dict[str, Dataset] = {}  # those of DATA that SeqIO knows
_describes_only = False


def register(dataset: Dataset) -> Dataset:
    """Makes a dataset known to the command line, and registers its SeqIO tasks and mixtures. Returns it.

    Raises:
      ValueError: if another dataset has the name.
    """
    if dataset.name in registry.registered():
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


def register_described(data_dir: str | os.PathLike[str] | None = None) -> None:
    """Registers the SeqIO tasks of all datasets that DATA describes, again where a description has changed.

    A description that cannot be read, or has the name of a registered dataset, is said, and left out.
    """
    if _describes_only:
        return
    for name in described.names_in(data_dir):
        try:
            dataset = described.find(name, data_dir)
            if name in registry.registered():
                raise ValueError(
                    f"{described.path_of(name, data_dir)} describes '{name}', but a Python file registers that name; prepare "
                    f"the table under another one."
                )
        except ValueError as error:
            say_once(f"{error} Left out.")
            continue
        if _described.get(name) != dataset:
            _register_tasks(dataset)
            _described[name] = dataset


def _register_tasks(dataset: Dataset) -> None:
    """Registers a dataset's tasks, in the place of those of a description with its name."""
    quiet.import_tensorflow()
    from stepdistill_jax.datasets import seqio_tasks

    if (replaced := _described.pop(dataset.name, None)) is not None:
        seqio_tasks.remove_tasks(replaced)
    seqio_tasks.register_tasks(dataset)
