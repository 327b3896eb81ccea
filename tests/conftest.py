"""Settings of every test: eight CPU devices so that sharding is real, and where the optional shared data lies."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"  # nothing is written to the user's home

import jax
import pytest

from stepdistill_jax.engine.t5x_names import alias

alias.install()  # the student is written against `t5x`

SHARED = Path(os.environ.get("STEPDISTILL_SHARED", Path(__file__).resolve().parents[2] / "shared"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with the published datasets and golden values; a test that needs it is skipped where it is absent."""
    if not (SHARED / "data" / "SOURCES.md").exists():
        pytest.skip(
            f"no shared data at {SHARED}; set STEPDISTILL_SHARED to the folder that holds data/ and oracle/"
        )
    return SHARED


@pytest.fixture(scope="module", autouse=True)
def environment_as_it_was() -> Iterator[None]:
    """A command in this process, such as `train --data_dir`, sets variables and reads gin: none of it outlives its file of tests."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)
    if (seqio := sys.modules.get("seqio")) is not None:
        seqio.set_tfds_data_dir_override(None)
    if (gin := sys.modules.get("gin")) is not None:
        gin.clear_config()  # a vocabulary that is bound is that of the embedded problems, too
    if (registration := sys.modules.get("stepdistill_jax.datasets.registration")) is not None:
        _forget_described(registration)


def _forget_described(registration: ModuleType) -> None:
    """Takes out of SeqIO the tasks of a data folder's datasets: the next file's may have the same names."""
    from stepdistill_jax.datasets import seqio_tasks

    while registration._described:
        seqio_tasks.remove_tasks(registration._described.popitem()[1])


@pytest.fixture(scope="module")
def quick_compilation() -> Iterator[None]:
    """For tests that compile far longer than they run: XLA leaves most optimisations out."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
