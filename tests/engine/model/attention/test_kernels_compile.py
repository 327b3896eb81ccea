"""The kernels compiled for GPUs that need not be there, where JAX's CUDA plugin is."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[4]

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


def has_cuda_plugin():
    try:
        return importlib.util.find_spec("jax_plugins.xla_cuda13") is not None
    except ModuleNotFoundError:
        return False


@pytest.mark.skipif(
    not has_cuda_plugin(), reason="needs jax[cuda13], which describes GPUs that are not there"
)
@pytest.mark.parametrize("topology", ["h100x1", "a100x1"])
def test_the_kernels_compile_for_a_gpu(topology):
    environment = {
        name: value for name, value in os.environ.items() if name not in ("JAX_PLATFORMS", "XLA_FLAGS")
    }
    done = subprocess.run(
        [sys.executable, "-c", COMPILE, topology],
        env={**environment, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "segment_attention": 1,
        "segment_attention_query_gradient": 1,
        "segment_attention_key_value_gradient": 1,
        "segment_attention_bias_gradient": 1,
    }
