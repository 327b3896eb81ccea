"""Whether JAX finds the devices that it is told to use, and what a program is traced for; what is then compiled is kept."""

import os

import jax

from stepdistill_jax.engine.hardware.compiled_programs import keep_compiled_programs

GPU_PLATFORMS = ("gpu", "cuda", "rocm")


def check_devices(*, keep_programs: bool = True) -> None:
    """Opens JAX's devices.

    Args:
      keep_programs: whether what is compiled for them is kept, and read where it was (`compiled_programs`).

    Raises:
      ValueError: if there are none of the kind that JAX_PLATFORMS asks for: names it, and the mend.
    """
    try:
        jax.devices()
    except (AssertionError, RuntimeError) as error:  # JAX's own, of which the first says nothing
        asked = os.environ.get("JAX_PLATFORMS") or jax.config.jax_platforms
        reason = f" ({' '.join(str(error).split())})" if str(error) else ""
        raise ValueError(
            f"JAX finds no device for JAX_PLATFORMS={asked}{reason}; unset it to take what is there, or install JAX for that "
            "kind of device, e.g. pip install 'jax[cuda13]'."
        ) from error
    if keep_programs:
        keep_compiled_programs()


def target_platform() -> str:
    """'cpu', 'gpu' or 'tpu': of the mesh that is traced under, which need not be there, else of JAX's default device."""
    device = getattr(jax.sharding.get_abstract_mesh(), "abstract_device", None)
    platform = getattr(device, "platform", None) or jax.default_backend()
    return "gpu" if platform in GPU_PLATFORMS else platform
