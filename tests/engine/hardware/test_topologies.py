"""A process that compiles for other devices leaves the host's alone."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def test_jax_keeps_to_the_cpu_also_where_it_is_imported_already():
    code = (
        "import jax\n"
        "from stepdistill_jax.engine.hardware import topologies\n"
        "topologies.prepare_process(topologies.parse_topology('cpu:2'))\n"
        "print(jax.config.jax_platforms, len(jax.devices()))\n"
    )
    environment = {
        name: value for name, value in os.environ.items() if name not in ("JAX_PLATFORMS", "XLA_FLAGS")
    }

    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**environment, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True,
    )  # fmt: skip

    assert done.stdout.split() == ["cpu", "2"]
