"""The kernels compiled for GPUs that need not be there, where JAX's CUDA plugin is."""

import pytest
from described_gpus import needs_cuda_plugin, printed_by

COMPILE = """
import json, sys
from stepdistill_jax.engine.hardware import topologies
topology = topologies.parse_topology(sys.argv[1])
topologies.prepare_process(topology)
import jax, jax.numpy as jnp, numpy as np
from stepdistill_jax.engine.hardware.step_costs import fused_kernels
from stepdistill_jax.engine.model.attention.segments import segment_attention
mesh = jax.sharding.Mesh(np.array(topologies.devices_of(topology)), ("data",))
everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
def array(shape, dtype):
    return jax.ShapeDtypeStruct(shape, dtype, sharding=everywhere)
states, ids = array((2, 256, 4, 64), jnp.bfloat16), array((2, 256), jnp.int32)
def total(query, key, value, segments, biases):
    return jnp.sum(segment_attention(query, key, value, segments, segments, biases).astype(jnp.float32))
with jax.set_mesh(mesh):
    gradient = jax.jit(jax.value_and_grad(total, (0, 1, 2, 4)))
    compiled = gradient.lower(states, states, states, ids, array((4, 257), jnp.float32)).compile()
print(json.dumps(fused_kernels(compiled.as_text())))
"""


@needs_cuda_plugin
@pytest.mark.parametrize("topology", ["h100x1", "a100x1"])
def test_the_kernels_compile_for_a_gpu(topology):
    assert printed_by(COMPILE, topology) == {
        "segment_attention": 1,
        "segment_attention_query_gradient": 1,
        "segment_attention_key_value_gradient": 1,
        "segment_attention_bias_gradient": 1,
    }
