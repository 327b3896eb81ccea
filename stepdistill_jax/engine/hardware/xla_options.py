"""XLA's settings that a program is compiled with, beyond XLA's own defaults.

They go with the program, not into XLA_FLAGS: there a name that XLA no longer has ends the process, and it would have to be known before
JAX opens its devices what these will be.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stepdistill_jax.engine.hardware.present_devices import GPU_PLATFORMS

# On several GPUs: collectives are begun as early and awaited as late as the schedule allows, so that they overlap with computing. NVIDIA's
# JAX images set it, JAX's "GPU performance tips" say it. What else these name is XLA's default by now (Triton's products, command buffers,
# asynchronous collectives) or to be tuned for one network (sizes of combined collectives).
_SEVERAL_GPUS: Mapping[str, Any] = {"xla_gpu_enable_latency_hiding_scheduler": True}
# XLA computes parts of a program again where it would need more than some three quarters of a GPU's memory. A step that should tell what
# it needs is compiled without that.
_AS_WRITTEN: Mapping[str, Any] = {"xla_disable_hlo_passes": "rematerialization"}


def compiler_options(
    platform: str, num_devices: int, xla_flags: str, *, as_written: bool = False
) -> dict[str, Any]:
    """Options of `jax.jit` for a program over so many devices of a platform, without those that XLA_FLAGS says itself.

    Args:
      platform: of the devices, as JAX names it: 'cpu', 'gpu', 'cuda', 'tpu', ….
      num_devices: of the mesh, all processes' together.
      xla_flags: flags as XLA reads them, separated by white space.
      as_written: whether a GPU's compiler is to compute nothing a second time to save memory.
    """
    if platform not in GPU_PLATFORMS:
        return {}
    options = {**(_SEVERAL_GPUS if num_devices > 1 else {}), **(_AS_WRITTEN if as_written else {})}
    said = {flag.lstrip("-").partition("=")[0] for flag in xla_flags.split()}
    return {name: value for name, value in options.items() if name not in said}


def flags_of_environment() -> str:
    """What $XLA_FLAGS says, or the file that it names, as XLA takes it."""
    said = os.environ.get("XLA_FLAGS", "").strip()
    if said and not said.startswith("-") and Path(said).is_file():
        return Path(said).read_text(encoding="utf-8")
    return said
