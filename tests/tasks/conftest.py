"""The published datasets, prepared once for all tests."""

import functools

import pytest

from stepdistill_jax import datasets
from stepdistill_jax.launching import task_modules


@pytest.fixture(scope="session")
def prepare_once(shared, tmp_path_factory):
    """name -> (manifest, {split: examples}, folder of the TFRecords), each prepared and read once."""
    task_modules.load_tasks()
    folder = tmp_path_factory.mktemp("DATA")

    @functools.cache
    def prepared(name):
        manifest = datasets.prepare(name, from_folder=shared / "data", data_dir=folder)
        examples = {split: datasets.read_examples(name, split, folder) for split in manifest["counts"]}
        return manifest, examples, folder / name / "examples"

    return prepared
