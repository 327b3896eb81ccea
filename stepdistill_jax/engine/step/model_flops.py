"""What a training step has to compute, whatever computes it and how often."""

from collections.abc import Mapping
from typing import Any

import jax

from stepdistill_jax.engine.hardware.step_costs import matmul_flops
from stepdistill_jax.engine.model import base_model


def model_flops(model: base_model.BaseModel, params: Any, batch: Mapping[str, jax.ShapeDtypeStruct]) -> int:
    """Three forward passes: the backward pass is two (Kaplan et al. 2020, section 2.1).

    Attention counts as two products over whole rows, also where a kernel leaves parts of them out: what is saved there then shows
    as a higher utilisation.

    Args:
      params: of the model, arrays or their shapes.
      batch: feature -> shape; nothing is computed.
    """
    model = _with_plain_attention(model)
    forward = jax.make_jaxpr(lambda p, b: model.eval_fn(p, model.with_loss_weights(b)))(params, batch)
    return 3 * matmul_flops(forward)


def _with_plain_attention(model: base_model.BaseModel) -> base_model.BaseModel:
    """The same model; products within a kernel could not be counted."""
    config = getattr(getattr(model, "module", None), "config", None)
    if not hasattr(config, "attention"):
        return model
    return base_model.with_config(model, attention="plain")
