"""What a step needs of a device's memory, and what there is of it."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from stepdistill_jax.engine.hardware import step_memory
from stepdistill_jax.engine.hardware.host_memory import HostMemory
from stepdistill_jax.engine.hardware.topologies import GIB, parse_topology

V4 = step_memory.described(parse_topology("v4:2x2x4"))


class Lowered:
    """A program whose compiler fails with a message."""

    def __init__(self, message):
        self.message = message

    def compile(self):
        raise jax.errors.JaxRuntimeError(self.message)


@pytest.mark.parametrize(
    ("libtpu", "figures"),
    [
        (  # as users report it
            "XLA:TPU compile permanent error. Ran out of memory in memory space hbm. Used 215.17G of 31.25G hbm. Exceeded "
            "hbm capacity by 183.92G.\nTotal hbm usage >= 215.92G",
            "it needs 215.17 GiB on each TPU v4 (31.25 GiB can be used)",
        ),
        (  # as libtpu 0.0.42 says it
            "Ran out of memory on HBM, the total memory required for HLO temporaries (64.00G) exceeds available HBM (15.75G).",
            "it needs 64.00 GiB for HLO temporaries alone on each TPU v4 (15.75 GiB can be used)",
        ),
        ("Out of memory in other words.", "it needs more memory on each TPU v4 (32.0 GiB can be used)"),
    ],
)
def test_a_step_that_the_compiler_refuses_for_its_size_is_one_line_with_its_figures(libtpu, figures):
    with pytest.raises(step_memory.ProgramTooLarge) as refused:
        step_memory.compile_step(Lowered(f"RESOURCE_EXHAUSTED: {libtpu}"))
    refusal = refused.value
    line = step_memory.does_not_fit(V4, refusal.needs, there_bytes=refusal.there_bytes)
    assert line.startswith("The step does not fit on v4:2x2x4: ")
    assert figures in line
    assert "parameter_partitioning_dims = 2" in line
    assert "raise NUM_MICROBATCHES" in line
    assert "\n" not in line


def test_another_failure_of_the_compiler_is_none_of_memory():
    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"):
        step_memory.compile_step(Lowered("INTERNAL: something else"))


def test_where_more_microbatches_are_no_help_they_are_no_mend():
    line = step_memory.does_not_fit(V4, "64.0 GiB", however=" even in 8 microbatches", more_parts=False)
    assert line.startswith(
        "The step does not fit on v4:2x2x4 even in 8 microbatches: it needs 64.0 GiB on each TPU v4 "
    )
    assert "NUM_MICROBATCHES" not in line


def test_a_refusal_in_parts_says_what_is_temporary_and_one_of_all_what_that_is():
    part = step_memory.ProgramTooLarge(
        "the total memory required for HLO temporaries (64.00G) exceeds available HBM (15.75G)."
    )
    assert (part.temporary_bytes, part.all_bytes) == (64 * GIB, None)
    whole = step_memory.ProgramTooLarge("Used 512.0M of 256.0M hbm.")
    assert (whole.temporary_bytes, whole.all_bytes, whole.there_bytes) == (None, GIB // 2, GIB // 4)


@pytest.mark.parametrize(
    ("name", "usable"), [("v5e:1x1", 16 * GIB), ("a100-40x1", int(0.95 * 42331013120)), ("cpu:2", None)]
)
def test_described_devices_have_what_their_topology_says(name, usable):
    memory = step_memory.described(parse_topology(name))
    assert (memory.usable_bytes, memory.lasting_bytes) == (usable, usable)


def test_cpu_devices_share_what_is_free_of_their_host(monkeypatch):
    monkeypatch.setattr(
        step_memory, "host_memory", lambda: HostMemory(free_bytes=6 * GIB, total_bytes=8 * GIB)
    )
    two = step_memory.attached(Mesh(np.array(jax.devices()[:2]), "data"))
    assert (two.usable_bytes, two.lasting_bytes) == (3 * GIB, 4 * GIB)
    assert two.source == "the host's free memory shared by 2 devices"
    one = step_memory.attached(Mesh(np.array(jax.devices()[:1]), "data"))
    assert (one.usable_bytes, one.source) == (6 * GIB, "the host's free memory")
    monkeypatch.setattr(step_memory, "host_memory", lambda: None)
    assert step_memory.attached(Mesh(np.array(jax.devices()[:1]), "data")).usable_bytes is None


def mesh_of(*accounts):
    """A mesh of one GPU an account, each what its `memory_stats` gives or raises."""

    def stats_of(account):
        def memory_stats():
            if isinstance(account, Exception):
                raise account
            return account

        return memory_stats

    gpus = [
        SimpleNamespace(platform="gpu", device_kind="A GPU", memory_stats=stats_of(account))
        for account in accounts
    ]
    return SimpleNamespace(local_devices=gpus)


@pytest.mark.parametrize(
    ("accounts", "usable"),
    [
        ([{"bytes_limit": 71 * GIB, "bytes_in_use": 5}], 71 * GIB),
        ([{"bytes_limit": 71 * GIB}, {"bytes_limit": 70 * GIB}], 70 * GIB),
        ([{"bytes_limit": 71 * GIB}, None], None),
        ([{"bytes_in_use": 5}], None),
        ([jax.errors.JaxRuntimeError("UNIMPLEMENTED")], None),
    ],
)
def test_an_accelerator_has_what_its_allocator_may_take(accounts, usable):
    memory = step_memory.attached(mesh_of(*accounts))
    assert (memory.device, memory.usable_bytes, memory.lasting_bytes) == ("A GPU", usable, usable)


def test_a_step_needs_its_arguments_results_and_temporaries():
    mesh = Mesh(np.array(jax.devices()[:2]), "data")
    rows = NamedSharding(mesh, PartitionSpec("data"))
    x = jax.ShapeDtypeStruct((64, 128), np.float32, sharding=rows)
    compiled = step_memory.compile_step(jax.jit(lambda x: x + 1, donate_argnums=0).lower(x))
    of_one = 32 * 128 * 4
    assert step_memory.bytes_of_one_device(x, rows) == of_one
    found = step_memory.memory_of(compiled, "cpu")
    assert found["peak_bytes"] >= of_one
    kept = step_memory.memory_of(step_memory.compile_step(jax.jit(lambda x: x + 1).lower(x)), "cpu")
    assert kept["peak_bytes"] - found["peak_bytes"] == of_one  # nothing is donated
    assert kept["temporary_bytes"] == kept["peak_bytes"] - of_one
