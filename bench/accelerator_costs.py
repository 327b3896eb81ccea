"""Model FLOPs of a T5's training step, and what share of a device's peak rate that is."""

import functools
from collections.abc import Sequence
from typing import Any

import accelerator_ours
import jax
import numpy as np

from stepdistill_jax.engine.hardware.topologies import peak_flops_of
from stepdistill_jax.engine.step.initialize import abstract_train_state
from stepdistill_jax.engine.step.model_flops import model_flops

Forward = tuple[int, int, int]  # rows, inputs, targets


@functools.cache
def flops(size: str, rows: int, inputs: int, targets: int) -> int:
    """Of forward and backward pass, by anyone: attention over whole rows, padding too, and nothing twice."""
    model, params = _model_and_shapes(size)
    lengths = {"inputs": inputs, "targets": targets}
    batch = {
        name: jax.ShapeDtypeStruct((rows, lengths[feature]), np.int32)
        for name, feature in model.batch_features(pack=False).items()
    }
    return model_flops(model, params, batch)


@functools.cache
def _model_and_shapes(size: str) -> tuple[Any, Any]:
    # All logits at once: blocks of them are filled up.
    model = accelerator_ours.t5_model(accelerator_ours.t5_config(size), loss_block_tokens=None)
    shapes = dict.fromkeys(model.batch_features(pack=False), (1, 1))
    return model, abstract_train_state(model, shapes, dict.fromkeys(shapes, np.dtype(np.int32))).params


def mfu(
    device_kind: str, size: str, forwards: Sequence[Sequence[Forward]], step_seconds: float
) -> float | None:
    """Model FLOPs utilisation (Chowdhery et al. 2022, PaLM, appendix B); None on a device whose peak rate is not known.

    Args:
      forwards: of each batch that steps go through in turn.
    """
    peak = peak_flops_of(device_kind)
    if peak is None:
        return None
    of_batches = [sum(flops(size, *forward) for forward in of_batch) for of_batch in forwards]
    return sum(of_batches) / len(of_batches) / step_seconds / peak
