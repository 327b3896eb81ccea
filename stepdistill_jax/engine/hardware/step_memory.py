"""What a compiled step needs of a device's memory, what there is of it, and the line that says it is too little."""

import dataclasses
import math
import re
from typing import Any

import jax

from stepdistill_jax.engine.hardware.host_memory import host_memory
from stepdistill_jax.engine.hardware.topologies import GIB, Topology

_SPLIT = "split the parameters further (parameter_partitioning_dims = 2, more NUM_PARTITIONS)"
_MORE_PARTS = "raise NUM_MICROBATCHES ('auto' finds how many it takes)"
_KEEP_LESS = "keep less for the backward pass (network.T5Config.remat_policy = 'full')"
# How libtpu says that a program is too large: of all its memory, or, as 0.0.42 does, of temporaries that are too many alone.
_ALL_USED = re.compile(r"Used (?P<used>[\d.]+[KMG]) of (?P<there>[\d.]+[KMG])")
_PART_USED = re.compile(
    r"required for (?P<part>[\w ]+) \((?P<used>[\d.]+[KMG])\) exceeds available HBM \((?P<there>[\d.]+[KMG])\)"
)


@dataclasses.dataclass(frozen=True)
class DeviceMemory:
    """What a program may use of each device.

    Attributes:
      hardware: all of it, in words: 'v4:2x2x4', 'the devices here'.
      device: one of it, in words.
      usable_bytes: of one device, now; None where nobody says.
      lasting_bytes: the same, without what differs from one start to the next: of a CPU all of its host's memory.
      source: what usable_bytes are, where they are not a device's own; else ''.
    """

    hardware: str
    device: str
    usable_bytes: int | None
    lasting_bytes: int | None
    source: str = ""


def described(topology: Topology) -> DeviceMemory:
    """Of devices that need not be there. Nobody says how much a host of `cpu:N` has."""
    usable = topology.usable_bytes
    return DeviceMemory(topology.name, topology.chip.name, usable, usable)


def attached(mesh: jax.sharding.Mesh) -> DeviceMemory:
    """Of this process's devices of a mesh; the least of them counts.

    A GPU's or TPU's is the limit of JAX's allocator, which XLA_PYTHON_CLIENT_MEM_FRACTION sets. CPU devices share what is free of
    their host's memory, or of the container's; other processes there are not reckoned with.
    """
    devices = mesh.local_devices
    kind = devices[0].device_kind
    if devices[0].platform == "cpu":
        if (host := host_memory()) is None:
            return DeviceMemory("the devices here", kind, None, None)
        shared = f" shared by {len(devices)} devices" if len(devices) > 1 else ""
        return DeviceMemory(
            "the devices here",
            kind,
            host.free_bytes // len(devices),
            host.total_bytes // len(devices),
            f"the host's free memory{shared}",
        )
    limits = [_limit(device) for device in devices]
    usable = None if None in limits else min(limits)
    return DeviceMemory("the devices here", kind, usable, usable)


def _limit(device: jax.Device) -> int | None:
    return _account(device).get("bytes_limit")


def free_bytes(device: jax.Device) -> int | None:
    """What JAX may take of a device besides what it has in use now; None where the device keeps no account."""
    account = _account(device)
    if "bytes_limit" not in account:
        return None
    return account["bytes_limit"] - account.get("bytes_in_use", 0)


def _account(device: jax.Device) -> dict[str, int]:
    try:
        return device.memory_stats() or {}
    except (NotImplementedError, jax.errors.JaxRuntimeError):  # a kind of device that keeps none
        return {}


class ProgramTooLarge(Exception):
    """A compiler would not have a program, for its size.

    Attributes:
      needs: in words: '215.17 GiB', '64.00 GiB for HLO temporaries alone', or 'more memory' where it gives no figures.
      temporary_bytes: that it wants besides the program's arguments, at least; None where that does not follow from its words.
      all_bytes: that it wants in all; None likewise.
      there_bytes: that there are; None likewise.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.needs = "more memory"
        self.temporary_bytes = self.all_bytes = self.there_bytes = None
        if part := _PART_USED.search(message):
            self.temporary_bytes, self.there_bytes = _bytes(part["used"]), _bytes(part["there"])
            self.needs = f"{_hundredths(self.temporary_bytes)} GiB for {part['part']} alone"
        elif used := _ALL_USED.search(message):
            self.all_bytes, self.there_bytes = _bytes(used["used"]), _bytes(used["there"])
            self.needs = f"{_hundredths(self.all_bytes)} GiB"


def compile_step(lowered: Any) -> Any:
    """The compiled program.

    Raises:
      ProgramTooLarge: if the compiler says that it needs more memory than there is.
    """
    try:
        return lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise ProgramTooLarge(str(error)) from error


def does_not_fit(
    memory: DeviceMemory,
    needs: str,
    *,
    there_bytes: int | None = None,
    however: str = "",
    more_parts: bool = True,
    keep_less: bool = True,
) -> str:
    """The line about a step that needs too much, with the mend.

    Args:
      needs: of one device.
      there_bytes: as the compiler counts; None is what `memory` says.
      however: what was tried.
      more_parts: whether more microbatches may help.
      keep_less: whether the config may say less than what was tried.
    """
    there = _hundredths(there_bytes) if there_bytes else None
    if there is None and memory.usable_bytes is not None:
        there = gib(memory.usable_bytes)
    usable = f" ({there} GiB can be used)" if there else ""
    mends = [_SPLIT, *[_MORE_PARTS] * more_parts, *[_KEEP_LESS] * keep_less]
    return (
        f"The step does not fit on {memory.hardware}{however}: it needs {needs} on each {memory.device}{usable}; "
        f"{', '.join(mends)}, or use more devices."
    )


def gib(num_bytes: int) -> str:
    """In GiB, to a tenth; of what is less than one, two digits."""
    return f"{num_bytes / GIB:.1f}" if num_bytes >= GIB else f"{num_bytes / GIB:.2g}"


def _hundredths(num_bytes: int) -> str:
    return f"{num_bytes / GIB:.2f}"


def memory_of(compiled: Any, platform: str) -> dict[str, int]:
    """Temporary and peak bytes of one device.

    On TPUs XLA's own peak is the figure to trust: the sum counts what never lives at the same time. The GPU compiler gives
    none, and the CPU's leaves out what is temporary: there the sum is what will be allocated.
    """
    stats = compiled.memory_analysis()
    peak = stats.argument_size_in_bytes + stats.output_size_in_bytes - stats.alias_size_in_bytes
    peak += stats.temp_size_in_bytes
    if platform == "tpu":
        peak = getattr(stats, "peak_memory_in_bytes", 0) or peak
    peak += stats.generated_code_size_in_bytes
    return {"temporary_bytes": max(peak - stats.argument_size_in_bytes, 0), "peak_bytes": peak}


def bytes_of_one_device(tree: Any, shardings: Any) -> int:
    """Of a tree of arrays or their shapes, as they are split."""
    return sum(
        math.prod(sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for leaf, sharding in zip(jax.tree.leaves(tree), jax.tree.leaves(shardings), strict=True)
    )


def _bytes(text: str) -> int:
    """Of '512.0M'."""
    return int(float(text[:-1]) * {"K": 2**10, "M": 2**20, "G": 2**30}[text[-1]])
