"""How large weights, gradients and updates are, parameter by parameter, under T5X's names (`t5x.trainer`)."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import traverse_util

from stepdistill_jax.engine.model.metrics import AveragePerStep, MetricsMap
from stepdistill_jax.engine.optim.train_state import FlaxOptimTrainState


class WeightMetricsComputer:
    """Set as `Trainer.weight_metrics_computer`, adds its metrics to those of every step."""

    def compute_metrics(
        self, gradients: Any, old_train_state: FlaxOptimTrainState, new_train_state: FlaxOptimTrainState
    ) -> MetricsMap:
        """weight_gradient_norm of the whole model, and for every parameter <metric>/<path>:

        weight_rms, weight_gradient_rms, weight_update_rms: root mean squares.
        weight_update_divided_by_weight_rms: of update / weight before it; a weight of 0 counts as 0.
        weight_max: the largest absolute value.
        """
        old, new = old_train_state.params, new_train_state.params
        updates = jax.tree.map(jnp.subtract, new, old)
        relative = jax.tree.map(
            lambda update, weight: jnp.where(weight == 0, 0.0, update / jnp.where(weight == 0, 1.0, weight)),
            updates,
            old,
        )
        return {
            **_each("weight_rms", _rms, new),
            **_each("weight_gradient_rms", _rms, gradients),
            "weight_gradient_norm": AveragePerStep.from_model_output(optax.global_norm(gradients)),
            **_each("weight_update_rms", _rms, updates),
            **_each("weight_update_divided_by_weight_rms", _rms, relative),
            **_each("weight_max", lambda value: jnp.max(jnp.abs(value)), new),
        }


def _each(name: str, measure: Callable[[jax.Array], jax.Array], tree: Any) -> MetricsMap:
    return {
        f"{name}/{path}": AveragePerStep.from_model_output(measure(value))
        for path, value in traverse_util.flatten_dict(tree, sep="/").items()
    }


def _rms(value: jax.Array) -> jax.Array:
    return jnp.sqrt(jnp.mean(jnp.square(value)))
