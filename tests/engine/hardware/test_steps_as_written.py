"""What a GPU's compiler does to a program that is too large, where JAX's CUDA plugin is: no GPU is needed."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]

# Its backward pass keeps more than 100 GiB of activations; an H100 has 80.
COMPILE = """
import json
from stepdistill_jax.engine.hardware import topologies
topology = topologies.parse_topology("h100x1")
topologies.prepare_process(topology)
import jax, jax.numpy as jnp
from jax.sharding import PartitionSpec
from stepdistill_jax.engine.partition.partitioning import PjitPartitioner
partitioner = PjitPartitioner(num_partitions=1)
partitioner.use_devices(topologies.devices_of(topology))
def loss(kernels, x):
    for kernel in kernels:
        x = jax.nn.gelu(x @ kernel)
    return jnp.sum(x)
shape = jax.ShapeDtypeStruct
arguments = [[shape((1024, 1024), jnp.float32)] * 24, shape((2**20, 1024), jnp.float32)]
found = {}
for as_written in (False, True):
    step = partitioner.partition(jax.grad(loss), (PartitionSpec(), PartitionSpec()), PartitionSpec(), as_written=as_written)
    compiled = step.lower(*arguments).compile()
    found[str(as_written)] = [compiled.memory_analysis().temp_size_in_bytes, compiled.as_text().count(".remat")]
print(json.dumps(found))
"""


def has_cuda_plugin():
    try:
        return importlib.util.find_spec("jax_plugins.xla_cuda13") is not None
    except ModuleNotFoundError:
        return False


@pytest.mark.skipif(
    not has_cuda_plugin(), reason="needs jax[cuda13], which describes GPUs that are not there"
)
def test_as_written_a_program_needs_what_it_says():
    """Otherwise XLA computes a part of it again, and its figures are of that."""
    environment = {
        name: value for name, value in os.environ.items() if name not in ("JAX_PLATFORMS", "XLA_FLAGS")
    }
    done = subprocess.run(
        [sys.executable, "-c", COMPILE],
        env={**environment, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    (by_itself, again), (as_written, none) = found["False"], found["True"]
    assert by_itself < 0.9 * as_written
    assert again > 0
    assert none == 0
