"""A small dataset of riddles, written as a user would, and taken out of the registries after each test."""

from collections.abc import Callable, Iterator
from pathlib import Path

import gin
import pytest
import seqio
from riddles import RIDDLES, to_example, write_jsonl

from stepdistill_jax import datasets
from stepdistill_jax.datasets import registry


@pytest.fixture
def register_dataset() -> Iterator[Callable[..., datasets.Dataset]]:
    """Registers a dataset for the length of a test; it uses the embedded vocabulary unless told otherwise."""
    made = []

    def register(**settings) -> datasets.Dataset:
        usual = {"name": "riddles", "to_example": to_example, "embedded": True, "default_teacher": "sphinx"}
        if not settings.keys() & {"files", "home", "rows"}:
            usual["files"] = {"train": ["train.jsonl"], "test": ["test.jsonl"]}
        dataset = datasets.register(datasets.Dataset(**{**usual, **settings}))
        made.append(dataset.name)
        return dataset

    yield register
    for name in made:
        del registry._DATASETS[name]
        for task in list(seqio.TaskRegistry.names()):
            if task.startswith(f"{name}_"):
                seqio.TaskRegistry.remove(task)
        for mixture in ("step_by_step", "step_by_step_teacher_label"):
            seqio.MixtureRegistry.remove(f"{name}_{mixture}")


@pytest.fixture
def data_folder(tmp_path, monkeypatch) -> Path:
    """DATA, empty, by $STEPDISTILL_DATA_DIR; no teacher, prefix or vocabulary is set."""
    folder = tmp_path / "DATA"
    monkeypatch.setenv("STEPDISTILL_DATA_DIR", str(folder))
    gin.clear_config()  # which may choose another vocabulary
    for setting in ("STEPDISTILL_TEACHER", "STEPDISTILL_PREFIXES", "STEPDISTILL_VOCABULARY"):
        monkeypatch.delenv(setting, raising=False)
    return folder


@pytest.fixture
def source_folder(tmp_path) -> Path:
    """The riddles as published: 10 rows of train, 2 of test."""
    folder = tmp_path / "published"
    folder.mkdir()
    write_jsonl(folder / "train.jsonl", RIDDLES[:10])
    write_jsonl(folder / "test.jsonl", RIDDLES[10:])
    return folder
