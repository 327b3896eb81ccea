"""Programs compiled for GPUs that need not be there, where JAX's CUDA plugin is."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


def _has_cuda_plugin() -> bool:
    try:
        return importlib.util.find_spec("jax_plugins.xla_cuda13") is not None
    except ModuleNotFoundError:
        return False


needs_cuda_plugin = pytest.mark.skipif(
    not _has_cuda_plugin(), reason="needs jax[cuda13], which describes GPUs that are not there"
)


def printed_by(script: str, *arguments: str) -> Any:
    """What a script prints as JSON in a process of its own, in which no device has been opened."""
    environment = {
        name: value for name, value in os.environ.items() if name not in ("JAX_PLATFORMS", "XLA_FLAGS")
    }
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        env={**environment, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
