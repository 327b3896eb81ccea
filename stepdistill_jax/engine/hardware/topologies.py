"""Hardware that need not be there: its devices as a compiler sees them, its memory and its peak rates.

A topology is named `v4:2x2x4` (TPU and the shape of its slice in chips), `a100x16` (GPUs, eight to a host) or `cpu:16`. TPUs are
described by libtpu, GPUs by JAX's CUDA plugin; both come from PyPI and work on a machine without either.
"""

import dataclasses
import importlib.util
import math
import os
import re
import sys
from typing import Any

GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Chip:
    """One device, by its maker's data sheet.

    Attributes:
      name: as people call it.
      memory_bytes: what the compiler or the driver leaves for a program.
      peak_flops: bf16 operations a second, dense.
      link_bytes_per_second: out of one device, all its fast links (TPU: ICI; GPU: NVLink) together.
      network_bytes_per_second: of one device's share of its host's network card; None where all hosts share the fast links.
      target: further numbers that the compiler of a GPU asks for.
    """

    name: str
    memory_bytes: int
    peak_flops: float
    link_bytes_per_second: float
    network_bytes_per_second: float | None = None
    target: "GpuTarget | None" = None


@dataclasses.dataclass(frozen=True)
class GpuTarget:
    """What XLA wants to know of a GPU, as its driver would report it."""

    compute_capability: int
    multiprocessors: int
    fp32_lanes: int
    memory_bytes: int
    memory_bytes_per_second: int
    l2_bytes: int
    clock_ghz: float
    shared_memory_per_multiprocessor: int

    def text(self, name: str) -> str:
        """A `GpuTargetConfigProto` in text form; the numbers beside this GPU's own are the same for all of these."""
        return f"""
            gpu_device_info {{
              threads_per_block_limit: 1024 threads_per_warp: 32 threads_per_core_limit: 2048
              shared_memory_per_block: 49152 shared_memory_per_core: {self.shared_memory_per_multiprocessor}
              shared_memory_per_block_optin: {self.shared_memory_per_multiprocessor - 1024}
              core_count: {self.multiprocessors} fpus_per_core: {self.fp32_lanes}
              block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
              thread_dim_limit_x: 1024 thread_dim_limit_y: 1024 thread_dim_limit_z: 64
              memory_bandwidth: {self.memory_bytes_per_second} l2_cache_size: {self.l2_bytes}
              clock_rate_ghz: {self.clock_ghz} device_memory_size: {self.memory_bytes}
              cuda_compute_capability {{ major: {self.compute_capability} }}
              registers_per_core_limit: 65536 registers_per_block_limit: 65536
            }}
            platform_name: "CUDA" dnn_version_info {{ major: 9 minor: 10 }} device_description_str: "{name}"
        """


def _a100(memory_bytes: int, memory_bytes_per_second: int) -> GpuTarget:
    return GpuTarget(8, 108, 64, memory_bytes, memory_bytes_per_second, 41943040, 1.41, 167936)


def _hopper(memory_bytes: int, memory_bytes_per_second: int) -> GpuTarget:
    return GpuTarget(9, 132, 128, memory_bytes, memory_bytes_per_second, 52428800, 1.98, 233472)


# TPU: cloud.google.com/tpu/docs (bf16 peak, HBM, ICI of one chip). GPU: NVIDIA's data sheets for the SXM modules (dense bf16, NVLink
# one way), a network card of 200 or 400 Gbit/s to each GPU as in DGX A100 and H100. JAX leaves itself three quarters of a GPU unless
# XLA_PYTHON_CLIENT_MEM_FRACTION says more: 0.95 is what a run of this size sets, and what is counted here.
_TPUS = {
    "v4": Chip("TPU v4", 32 * GIB, 275e12, 300e9),
    "v5e": Chip("TPU v5e", 16 * GIB, 197e12, 200e9),
    "v5p": Chip("TPU v5p", 95 * GIB, 459e12, 600e9),
    "v6e": Chip("TPU v6e", 32 * GIB, 918e12, 448e9),
}
GPU_MEMORY_FRACTION = 0.95
_GPUS = {
    "a100": Chip("A100 80 GB", 85100068864, 312e12, 300e9, 25e9, _a100(85100068864, 2039040000000)),
    "a100-40": Chip("A100 40 GB", 42331013120, 312e12, 300e9, 25e9, _a100(42331013120, 1555200000000)),
    "h100": Chip("H100 80 GB", 84942979072, 989e12, 450e9, 50e9, _hopper(84942979072, 3352320000000)),
    "h200": Chip("H200 141 GB", 150121545728, 989e12, 450e9, 50e9, _hopper(150121545728, 4800000000000)),
}
# What drivers call a device -> the chip whose compute rates it has. Modules for PCIe are as fast only where they are listed.
_DEVICE_KINDS = {
    "TPU v4": _TPUS["v4"],
    "TPU v5 lite": _TPUS["v5e"],
    "TPU v5e": _TPUS["v5e"],
    "TPU v5": _TPUS["v5p"],
    "TPU v5p": _TPUS["v5p"],
    "TPU v6 lite": _TPUS["v6e"],
    "TPU v6e": _TPUS["v6e"],
    "NVIDIA A100-SXM4-40GB": _GPUS["a100-40"],
    "NVIDIA A100-PCIE-40GB": _GPUS["a100-40"],
    "NVIDIA A100-SXM4-80GB": _GPUS["a100"],
    "NVIDIA A100 80GB PCIe": _GPUS["a100"],
    "NVIDIA H100 80GB HBM3": _GPUS["h100"],
    "NVIDIA H200": _GPUS["h200"],
}
_CPU = Chip("CPU", 0, 0.0, 0.0)
GPUS_PER_HOST = 8
# Platform -> what describes its devices, and the extra that installs it.
_PACKAGES = {"tpu": ("libtpu", "tpu"), "gpu": ("jax_plugins.xla_cuda13", "cuda")}


@dataclasses.dataclass(frozen=True)
class Topology:
    """Devices that a program is compiled for.

    Attributes:
      name: as given.
      platform: 'tpu', 'gpu' or 'cpu'.
      chip: what each of them is.
      num_devices: how many.
      shape: of a TPU slice in chips, or (hosts, GPUs of each).
    """

    name: str
    platform: str
    chip: Chip
    num_devices: int
    shape: tuple[int, ...]

    @property
    def usable_bytes(self) -> int | None:
        """Of one device's memory; None for a CPU, which is as large as its host."""
        if not self.chip.memory_bytes:
            return None
        fraction = GPU_MEMORY_FRACTION if self.platform == "gpu" else 1.0
        return int(self.chip.memory_bytes * fraction)


def parse_topology(name: str) -> Topology:
    """A topology from its name.

    Raises:
      ValueError: for a name that is none of the three forms; it lists the kinds of devices.
    """
    if match := re.fullmatch(r"cpu:(\d+)", name):
        return Topology(name, "cpu", _CPU, _positive(name, int(match[1])), (int(match[1]),))
    if (match := re.fullmatch(r"(v\w+):(\d+(?:x\d+){1,2})", name)) and match[1] in _TPUS:
        shape = tuple(int(size) for size in match[2].split("x"))
        return Topology(name, "tpu", _TPUS[match[1]], _positive(name, math.prod(shape)), shape)
    if (match := re.fullmatch(r"([a-z]\d+(?:-\d+)?)x(\d+)", name)) and match[1] in _GPUS:
        count = _positive(name, int(match[2]))
        if count > GPUS_PER_HOST and count % GPUS_PER_HOST:
            raise ValueError(f"--topology={name}: {count} GPUs are no whole hosts of {GPUS_PER_HOST}.")
        per_host = min(count, GPUS_PER_HOST)
        return Topology(name, "gpu", _GPUS[match[1]], count, (count // per_host, per_host))
    raise ValueError(
        f"--topology={name} is none that is known; use a TPU slice in chips ({', '.join(_TPUS)}: v4:2x2x4, v5e:4x4), GPUs "
        f"({', '.join(_GPUS)}: a100x16), or cpu:16."
    )


def peak_flops_of(device_kind: str) -> float | None:
    """bf16 operations a second, dense, of a device by its `device_kind`; None of one that is not in the table."""
    chip = _DEVICE_KINDS.get(device_kind)
    return chip.peak_flops if chip else None


def _positive(name: str, count: int) -> int:
    if count < 1:
        raise ValueError(f"--topology={name} has no device.")
    return count


def prepare_process(topology: Topology) -> None:
    """Sets what has to be set before JAX opens its first device: the host's own accelerators are left alone.

    Raises:
      ValueError: if the package that describes the devices is missing.
    """
    if topology.platform != "cpu":
        _require(*_PACKAGES[topology.platform], topology)
    os.environ["JAX_PLATFORMS"] = "cpu"
    if "jax" in sys.modules:  # which has read the variable when it was imported
        sys.modules["jax"].config.update("jax_platforms", "cpu")
    flags = os.environ.get("XLA_FLAGS", "")
    if topology.platform == "cpu":
        flags += f" --xla_force_host_platform_device_count={topology.num_devices}"
    elif topology.platform == "tpu":
        os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")  # no metadata server to ask
        os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
        os.environ.setdefault("TPU_ACCELERATOR_TYPE", _accelerator_type(topology))
        os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")  # no chip that two programs could fight for
    else:
        flags += " --xla_gpu_autotune_level=0"  # nothing to time kernels on
    os.environ["XLA_FLAGS"] = flags


def _accelerator_type(topology: Topology) -> str:
    """Google Cloud's name of a slice, which libtpu complains to be without: v4 and v5p count cores, two to a chip."""
    kind = topology.name.partition(":")[0]
    if kind in ("v4", "v5p"):
        return f"{kind}-{2 * topology.num_devices}"
    return f"{'v5litepod' if kind == 'v5e' else kind}-{topology.num_devices}"


def devices_of(topology: Topology) -> list[Any]:
    """The devices to compile for.

    Raises:
      ValueError: if there are no such devices.
    """
    import jax

    if topology.platform == "cpu":
        if len(jax.devices("cpu")) < topology.num_devices:
            raise ValueError(
                f"--topology={topology.name}: this process has {len(jax.devices('cpu'))} CPU devices; start it with "
                f"XLA_FLAGS=--xla_force_host_platform_device_count={topology.num_devices}."
            )
        return jax.devices("cpu")[: topology.num_devices]
    from jax.experimental import topologies

    try:
        if topology.platform == "tpu":
            kind, _, shape = topology.name.partition(":")
            # Both cores of a v4 chip are one device, as on Cloud TPUs; the later ones are so by themselves.
            options: dict[str, Any] = {"chip_config_name": "megacore"} if kind == "v4" else {}
            if topology.num_devices == 1:
                options["chips_per_host_bounds"] = [1, 1, 1]  # libtpu takes four chips to a host unless told
            return list(topologies.get_topology_desc(f"{kind}:{shape}", platform="tpu", **options).devices)
        jax.devices()  # the plugins are loaded with the first backend
        description = topologies.get_topology_desc(
            topology.name,
            platform="cuda",
            target_config=topology.chip.target.text(f"NVIDIA {topology.chip.name}"),
            topology=f"1x{topology.shape[0]}x{topology.shape[1]}",  # slices x hosts x GPUs
        )
        return list(description.devices)
    except (RuntimeError, NotImplementedError) as error:
        raise ValueError(f"--topology={topology.name}: {str(error).splitlines()[0]}") from error


def _require(module: str, extra: str, topology: Topology) -> None:
    """Raises with one line if a package is missing; `jax_plugins.xla_cuda12` does for `…13`."""
    for name in (module, module.replace("cuda13", "cuda12")):
        try:
            if importlib.util.find_spec(name):
                return
        except ModuleNotFoundError:  # of its parent package
            continue
    raise ValueError(
        f"--topology={topology.name} needs {module.rpartition('.')[2]}, which is not installed: pip install "
        f"'.[{extra}]' (in a clone). No {topology.chip.name} has to be there."
    )
