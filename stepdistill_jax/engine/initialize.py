"""The train state of a run: its shape, its split over the mesh, and its first values."""

from typing import Any

import jax

from stepdistill_jax.engine import models
from stepdistill_jax.engine.partitioning import PjitPartitioner
from stepdistill_jax.engine.train_state import FlaxOptimTrainState


def abstract_train_state(
    model: models.BaseModel, input_shapes: dict[str, tuple[int, ...]], input_types: dict[str, Any]
) -> FlaxOptimTrainState:
    """The state with a ShapeDtypeStruct in place of every array: nothing is computed or allocated."""
    return jax.eval_shape(
        lambda rng: _initial_state(model, rng, input_shapes, input_types), jax.random.key(0)
    )


def initial_train_state(
    model: models.BaseModel,
    rng: jax.Array,
    input_shapes: dict[str, tuple[int, ...]],
    input_types: dict[str, Any],
    partitioner: PjitPartitioner,
    train_state_axes: FlaxOptimTrainState,
) -> FlaxOptimTrainState:
    """Random parameters and the optimizer's first state, each made where it will live."""
    init = partitioner.partition(
        lambda key: _initial_state(model, key, input_shapes, input_types),
        in_axis_resources=None,
        out_axis_resources=train_state_axes,
    )
    return init(rng)


def _initial_state(
    model: models.BaseModel,
    rng: jax.Array,
    input_shapes: dict[str, tuple[int, ...]],
    input_types: dict[str, Any],
) -> FlaxOptimTrainState:
    return FlaxOptimTrainState.create(
        model.optimizer_def, model.get_initial_variables(rng, input_shapes, input_types)
    )


def num_parameters(train_state: FlaxOptimTrainState) -> int:
    """How many numbers the model learns."""
    return sum(leaf.size for leaf in jax.tree.leaves(train_state.params))
