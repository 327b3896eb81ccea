"""What a GPU's compiler does to a program that is too large, where JAX's CUDA plugin is: no GPU is needed."""

from described_gpus import needs_cuda_plugin, printed_by

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


@needs_cuda_plugin
def test_as_written_a_program_needs_what_it_says():
    """Otherwise XLA computes a part of it again, and its figures are of that."""
    found = printed_by(COMPILE)
    (by_itself, again), (as_written, none) = found["False"], found["True"]
    assert by_itself < 0.9 * as_written
    assert again > 0
    assert none == 0
