"""Which implementation of attention serves a network on the devices that it is traced for."""

import concurrent.futures
import functools
from typing import Any

import jax
import jax.numpy as jnp

from stepdistill_jax.base.messages import say_once
from stepdistill_jax.engine.hardware.present_devices import GPU_PLATFORMS, target_platform
from stepdistill_jax.engine.model.masks import SegmentMask

IMPLEMENTATIONS = ("auto", "plain", "xla", "cudnn", "pallas")

_HALF = (jnp.bfloat16, jnp.float16)
_CUDNN_LARGEST_HEAD, _CUDNN_HEAD_MULTIPLE = 128, 8  # of GPUs before Hopper, too


def check_attention(implementation: str, *, dtype: Any, head_dim: int, float32_logits: bool = False) -> None:
    """Checks that an implementation is known and can do what is asked of it.

    Raises:
      ValueError: if not.
    """
    if implementation not in IMPLEMENTATIONS:
        raise ValueError(f"attention={implementation!r}; use one of {', '.join(IMPLEMENTATIONS)}.")
    if float32_logits and implementation not in ("auto", "plain"):
        raise ValueError(
            f"attention={implementation!r} with float32_attention_logits=True: it multiplies in the dtype; use 'plain'."
        )
    if implementation == "cudnn" and (reason := _why_not_cudnn(dtype, head_dim)):
        raise ValueError(f"attention='cudnn' {reason}; use 'auto', which takes what serves.")
    if implementation == "pallas" and (reason := _why_not_pallas(head_dim)):
        raise ValueError(f"attention='pallas' {reason}; use 'auto', which takes what serves.")


def choose(
    implementation: str,
    mask: Any = None,
    *,
    dtype: Any,
    head_dim: int,
    float32_logits: bool = False,
) -> str:
    """'plain', 'xla', 'cudnn' or 'pallas': what computes attention without a cache.

    What is asked for, and for 'auto' what `explain` says. Where 'pallas' is asked for, and the mask is not known by segments
    (such as a prefix LM's), 'plain' does that part.
    """
    if implementation == "auto":
        implementation = explain(dtype=dtype, head_dim=head_dim, float32_logits=float32_logits)[0]
        if implementation == "pallas" and not isinstance(mask, SegmentMask):
            implementation = "plain" if _why_not_cudnn(dtype, head_dim) else "cudnn"
    if implementation == "pallas":
        if target_platform() == "tpu":
            raise ValueError(
                "attention='pallas' is compiled for GPUs, and these are TPUs; use 'auto' or 'plain'."
            )
        if not isinstance(mask, SegmentMask):
            return "plain"
    return implementation


def explain(
    *, dtype: Any, head_dim: int, float32_logits: bool = False, platform: str | None = None
) -> tuple[str, str]:
    """(what 'auto' takes for packed and padded rows, why).

    Args:
      platform: None: that of the mesh that is traced under, else JAX's default.
    """
    platform = platform or target_platform()
    if platform not in GPU_PLATFORMS:
        return "plain", "no GPU"
    if float32_logits:
        return "plain", "float32_attention_logits"
    if jnp.dtype(dtype) not in _HALF:
        return "plain", f"{jnp.dtype(dtype)}: fused kernels multiply in bfloat16 or float16"
    reasons = [_why_not_pallas(head_dim) or _why_not_on_these_devices()]
    if reasons[0] is None:
        return "pallas", "skips what belongs to other examples of a row"
    reasons.append(_why_not_cudnn(dtype, head_dim))
    if reasons[1] is None:
        return "cudnn", f"'pallas' {reasons[0]}"
    return "plain", f"'pallas' {reasons[0]}, 'cudnn' {reasons[1]}"


def describe(config: Any, platform: str) -> str | None:
    """One line for a log: what computes attention on devices of a platform, and why. None for a network that has no choice.

    Args:
      config: a network's, such as `network.T5Config`.
    """
    name = getattr(config, "attention", None)
    if name != "auto":
        return name and f"attention: {name}, as set"
    float32_logits = getattr(config, "float32_attention_logits", False)
    name, reason = explain(
        dtype=config.dtype, head_dim=config.head_dim, float32_logits=float32_logits, platform=platform
    )
    return f"attention: {name} ({reason})"


def _why_not_cudnn(dtype: Any, head_dim: int) -> str | None:
    if jnp.dtype(dtype) not in _HALF:
        return f"computes in bfloat16 or float16, and dtype is {jnp.dtype(dtype)}"
    if head_dim > _CUDNN_LARGEST_HEAD or head_dim % _CUDNN_HEAD_MULTIPLE:
        return f"takes heads of a multiple of {_CUDNN_HEAD_MULTIPLE} up to {_CUDNN_LARGEST_HEAD}, and they are {head_dim}"
    return None


def _why_not_pallas(head_dim: int) -> str | None:
    try:
        from stepdistill_jax.engine.model.attention import segments
    except ImportError:
        return f"needs Pallas for Triton, which jax {jax.__version__} has not"
    if not segments.serves_head_dim(head_dim):
        return f"takes heads of a power of two from 16 on, and they are {head_dim}"
    return None


def _why_not_on_these_devices() -> str | None:
    """Of GPUs that are attached: the kernels are compiled and compared with 'plain' first, once a process."""
    if jax.default_backend() not in GPU_PLATFORMS:
        return None  # compiled for devices that are not there
    failure = _trial()
    if failure:
        say_once(f"attention='pallas' is not taken: {failure}")
        return f"failed its trial on this device ({failure})"
    return None


@functools.cache
def _trial() -> str | None:
    """Runs in a thread of its own: what is being traced in this one must not trace it, too."""
    from stepdistill_jax.engine.model.attention.trial import failure

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        return pool.submit(failure).result()
