"""Learning rates as functions of the step."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

LearningRateFn = Callable[[jax.Array], jax.Array]

_FACTORS = (
    "constant",
    "linear_warmup",
    "linear_decay",
    "rsqrt_decay",
    "rsqrt_normalized_decay",
    "decay_every",
    "cosine_decay",
)


def create_learning_rate_scheduler(
    factors: str = "constant * linear_warmup * rsqrt_decay",
    base_learning_rate: float = 0.5,
    warmup_steps: int = 1000,
    decay_factor: float = 0.5,
    steps_per_decay: int = 20000,
    steps_per_cycle: int = 100000,
    step_offset: int = 0,
    min_learning_rate: float = 1e-8,
) -> LearningRateFn:
    """T5X's schedule: a product of factors, with s the steps since `step_offset` and w = warmup_steps.

    constant: base_learning_rate.  linear_warmup: min(1, s/w), 1 without warm-up.  rsqrt_decay: 1/√max(s, w).
    rsqrt_normalized_decay: √w/√max(s, w).  decay_every: decay_factor to the power ⌊s/steps_per_decay⌋.
    cosine_decay: (1 + cos π((s - w)/steps_per_cycle mod 1))/2.
    linear_decay: base_learning_rate · min(s/w, 1 + decay_factor · (w - s)): warm-up and decay in one.
    With w = 0, where T5X's formulas divide 0 by 0, the decays begin at once: as with w = 1, but linear_decay from 1.

    Returns:
      step (int scalar) -> learning rate (float32 scalar), at least `min_learning_rate`.

    Raises:
      ValueError: for a factor that is not one of these.
    """
    names = [name.strip() for name in factors.split("*")]
    unknown = [name for name in names if name not in _FACTORS]
    if unknown:
        raise ValueError(f"factors={factors!r}: no factor {unknown[0]!r}; there are {', '.join(_FACTORS)}.")

    def learning_rate(step: jax.Array) -> jax.Array:
        s = jnp.maximum(0, step - step_offset).astype(jnp.float32)
        warmed = jnp.maximum(s, max(warmup_steps, 1))
        warmup = jnp.minimum(1.0, s / warmup_steps) if warmup_steps else jnp.float32(1.0)
        cycle = jnp.maximum(0.0, (s - warmup_steps) / steps_per_cycle) % 1.0
        value_of = {
            "constant": lambda: base_learning_rate,
            "linear_warmup": lambda: warmup,
            "linear_decay": lambda: (
                base_learning_rate * jnp.minimum(warmup, 1.0 + decay_factor * (warmup_steps - s))
            ),
            "rsqrt_decay": lambda: 1.0 / jnp.sqrt(warmed),
            "rsqrt_normalized_decay": lambda: jnp.sqrt(max(warmup_steps, 1) / warmed),
            "decay_every": lambda: decay_factor ** (s // steps_per_decay),
            "cosine_decay": lambda: 0.5 * (1.0 + jnp.cos(jnp.pi * cycle)),
        }
        rate = jnp.float32(1.0)
        for name in names:
            rate = rate * value_of[name]()
        return jnp.maximum(rate, min_learning_rate).astype(jnp.float32)

    return learning_rate
