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
_CUDNN_LARGEST_HEAD, _CUDNN_HEAD_MULTIPLE = 256, 8
_AUTO_LARGEST_HEAD = 128  # cuDNN's on GPUs before Hopper


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

    Raises:
      ValueError: for 'pallas' on TPUs.
    """
    by_segments = isinstance(mask, SegmentMask)
    if implementation == "auto":
        return explain(
            dtype=dtype, head_dim=head_dim, float32_logits=float32_logits, by_segments=by_segments
        )[0]
    if implementation == "pallas":
        if target_platform() == "tpu":
            raise ValueError(
                "attention='pallas' is compiled for GPUs, and these are TPUs; use 'auto' or 'plain'."
            )
        if not by_segments:
            return "plain"
    return implementation


def explain(
    *,
    dtype: Any,
    head_dim: int,
    float32_logits: bool = False,
    by_segments: bool = True,
    platform: str | None = None,
) -> tuple[str, str]:
    """(what 'auto' takes, why).

    Args:
      by_segments: whether the mask is a `SegmentMask`.
      platform: None: that of the mesh that is traced under, else JAX's default.
    """
    platform = platform or target_platform()
    if platform not in GPU_PLATFORMS:
        return "plain", "no GPU"
    if float32_logits:
        return "plain", "float32_attention_logits"
    if jnp.dtype(dtype) not in _HALF:
        return "plain", f"{jnp.dtype(dtype)}: fused kernels multiply in bfloat16 or float16"
    reasons = []
    for name in ("pallas", "cudnn"):
        reason = _why_not_auto(name, jnp.dtype(dtype), head_dim, by_segments)
        if reason is None:
            return name, reasons[0] if reasons else "skips what belongs to other examples of a row"
        reasons.append(f"'{name}' {reason}")
    return "plain", ", ".join(reasons)


def describe(config: Any, platform: str, *, by_segments: bool = True) -> str | None:
    """One line for a log: what computes attention on devices of a platform, and why. None for a network that has no choice.

    Args:
      config: a network's, such as `network.T5Config`.
      by_segments: whether its masks are known by segments.
    """
    name = getattr(config, "attention", None)
    if name == "auto":
        name, reason = explain(
            dtype=config.dtype,
            head_dim=config.head_dim,
            float32_logits=getattr(config, "float32_attention_logits", False),
            by_segments=by_segments,
            platform=platform,
        )
        return f"attention: {name} ({reason})"
    if name == "pallas" and not by_segments:
        return "attention: plain ('pallas', as set, takes masks that are known by segments)"
    return name and f"attention: {name}, as set"


def _why_not_auto(name: str, dtype: jnp.dtype, head_dim: int, by_segments: bool) -> str | None:
    if name == "pallas":
        if not by_segments:
            return "takes masks that are known by segments"
        reason = _why_not_pallas(head_dim)
    else:
        reason = _why_not_cudnn(dtype, head_dim)
    if reason is None and head_dim > _AUTO_LARGEST_HEAD:
        reason = f"was not tried with heads of more than {_AUTO_LARGEST_HEAD}"
    if reason or jax.default_backend() not in GPU_PLATFORMS:
        return reason  # for devices that are not there nothing can be tried
    if jax.process_count() > 1:  # trials could end differently, and all processes run one program
        return "is tried where there is one process" if name == "pallas" else None
    failure = _trial(name, dtype, head_dim)
    if failure is None:
        return None
    say_once(f"attention='{name}' is not taken: {failure}")
    return f"failed its trial on this device ({failure})"


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
        return f"takes heads of 16, 32, 64, 128 or 256, and they are {head_dim}"
    return None


@functools.cache
def _trial(name: str, dtype: jnp.dtype, head_dim: int) -> str | None:
    """Runs in a thread of its own: what is being traced in this one must not trace it, too."""
    from stepdistill_jax.engine.model.attention.trial import failure

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        return pool.submit(failure, name, dtype, head_dim).result()
