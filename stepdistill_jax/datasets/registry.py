"""The datasets that are known, by name."""

from stepdistill_jax.base.messages import nearest
from stepdistill_jax.datasets.dataset import Dataset

_DATASETS: dict[str, Dataset] = {}


def add(dataset: Dataset) -> None:
    """Makes a dataset known by its name."""
    _DATASETS[dataset.name] = dataset


def names() -> list[str]:
    """Names of all registered datasets."""
    return sorted(_DATASETS)


def get(name: str) -> Dataset:
    """The registered dataset of that name.

    Raises:
      ValueError: names the nearest one.
    """
    if name not in _DATASETS:
        hint = nearest(name, _DATASETS) or "; none is registered: `import tasks` registers ours"
        raise ValueError(f"No dataset '{name}'{hint}.")
    return _DATASETS[name]
