"""What a step has to compute does not depend on what computes it."""

import jax
import numpy as np
import pytest

from stepdistill_jax.engine.hardware.step_costs import matmul_flops
from stepdistill_jax.engine.step.initialize import abstract_train_state
from stepdistill_jax.engine.step.model_flops import model_flops


def arguments(model):
    """(model, shapes of its parameters, shapes of a packed batch)."""
    shapes = dict.fromkeys(model.batch_features(pack=True), (2, 32))
    types = dict.fromkeys(shapes, np.dtype(np.int32))
    batch = {name: jax.ShapeDtypeStruct(shape, types[name]) for name, shape in shapes.items()}
    return model, abstract_train_state(model, shapes, types).params, batch


def test_it_is_three_forward_passes_of_the_traced_step(make_model):
    model, params, batch = arguments(make_model({"attention": "plain"}))
    forward = jax.make_jaxpr(lambda p, b: model.eval_fn(p, model.with_loss_weights(b))[0])(params, batch)
    assert model_flops(model, params, batch) == 3 * matmul_flops(forward)


@pytest.mark.parametrize(
    "changes",
    [
        {"attention": "xla"},
        {"attention": "cudnn", "dtype": "bfloat16", "head_dim": 8},  # which this machine may lack
        {"scan_layers": True, "remat_policy": "full"},
    ],
)
def test_kernels_loops_and_recomputation_change_nothing(make_model, changes):
    model = make_model(changes)
    plain = {name: value for name, value in changes.items() if name in ("dtype", "head_dim")}
    counted = model_flops(*arguments(model))
    assert counted == model_flops(*arguments(make_model({"attention": "plain", **plain}))) > 0
    assert model.module.config.attention == changes.get("attention", "auto")  # it stays as it was
