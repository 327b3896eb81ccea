"""The datasets that are known, by name: those that a task file registers, and those that DATA describes."""

import os

from stepdistill_jax.base import locations
from stepdistill_jax.base.messages import nearest
from stepdistill_jax.datasets import described
from stepdistill_jax.datasets.dataset import Dataset

_DATASETS: dict[str, Dataset] = {}


def add(dataset: Dataset) -> None:
    """Makes a dataset known by its name."""
    _DATASETS[dataset.name] = dataset


def registered() -> list[str]:
    """Names of the datasets that Python files register."""
    return sorted(_DATASETS)


def names(data_dir: str | os.PathLike[str] | None = None) -> list[str]:
    """Names of all datasets: those that are registered, and those that DATA describes."""
    return sorted({*_DATASETS, *described.names_in(data_dir)})


def get(name: str, data_dir: str | os.PathLike[str] | None = None) -> Dataset:
    """The dataset of that name, registered or described below DATA.

    Raises:
      ValueError: names the nearest one; or what is wrong with its description.
    """
    if name in _DATASETS:
        return _DATASETS[name]
    if name in described.names_in(data_dir):
        return described.find(name, data_dir)
    hint = nearest(name, names(data_dir)) or "; none is registered: `import tasks` registers ours"
    raise ValueError(
        f"No dataset '{name}'{hint}. Those of tables are looked for in {locations.data_dir(data_dir)} (--data_dir, or "
        "STEPDISTILL_DATA_DIR)."
    )
