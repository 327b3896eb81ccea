"""The train state of a run: its shape, its split over the mesh, and its first values."""

import functools
from collections.abc import Callable, Collection, Mapping
from typing import Any

import jax

from stepdistill_jax.engine.checkpoint.state_restoring import abstract_state_dict
from stepdistill_jax.engine.checkpoint.state_utils import arrays_by_name
from stepdistill_jax.engine.model import base_model
from stepdistill_jax.engine.optim.optimizers import OptimizerDef
from stepdistill_jax.engine.optim.train_state import FlaxOptimTrainState
from stepdistill_jax.engine.partition.partitioning import PjitPartitioner


class TrainStateInitializer:
    """T5X's name (`t5x.utils`): what a run's state looks like, where it lies, and its first values.

    Attributes:
      global_train_state_shape: the state with a ShapeDtypeStruct in place of every array; nothing is allocated.
      train_state_axes: a PartitionSpec for every array of the state.
    """

    def __init__(
        self,
        optimizer_def: OptimizerDef,
        init_fn: Callable[..., Mapping[str, Any]],
        input_shapes: Mapping[str, tuple[int, ...]],
        partitioner: PjitPartitioner,
        input_types: Mapping[str, Any] | None = None,
    ) -> None:
        """Works out shapes and axes; nothing is computed.

        Args:
          optimizer_def: makes the optimizer's state.
          init_fn: (rng, input_shapes, input_types) -> variables, a model's `get_initial_variables`.
          input_shapes: of the global batch's features.
          partitioner: says what lies where.
          input_types: of the features, default int32.
        """
        self._create = functools.partial(_first_state, optimizer_def, init_fn, input_shapes, input_types)
        self._partitioner = partitioner
        self.global_train_state_shape = jax.eval_shape(self._create, jax.random.key(0))
        self.train_state_axes = partitioner.get_mesh_axes(self.global_train_state_shape)

    def from_scratch(self, init_rng: jax.Array) -> FlaxOptimTrainState:
        """Random parameters and the optimizer's first state, each made where it will live."""
        init = self._partitioner.partition(
            self._create, in_axis_resources=None, out_axis_resources=self.train_state_axes
        )
        return init(init_rng)

    def first_values(self, init_rng: jax.Array, names: Collection[str]) -> dict[str, jax.Array]:
        """Some arrays of that state, by their names in its `state_dict`; the others are not made."""
        places = arrays_by_name(abstract_state_dict(self.global_train_state_shape, self._partitioner))

        def chosen(rng: jax.Array) -> dict[str, jax.Array]:
            return {
                name: leaf
                for name, leaf in arrays_by_name(self._create(rng).state_dict()).items()
                if name in names
            }

        init = self._partitioner.partition(
            chosen,
            in_axis_resources=None,
            out_axis_resources={name: places[name].sharding.spec for name in names},
        )
        return init(init_rng)


def abstract_train_state(
    model: base_model.BaseModel, input_shapes: dict[str, tuple[int, ...]], input_types: dict[str, Any]
) -> FlaxOptimTrainState:
    """The state with a ShapeDtypeStruct in place of every array: nothing is computed or allocated."""
    create = functools.partial(
        _first_state, model.optimizer_def, model.get_initial_variables, input_shapes, input_types
    )
    return jax.eval_shape(create, jax.random.key(0))


def _first_state(
    optimizer_def: OptimizerDef,
    init_fn: Callable[..., Mapping[str, Any]],
    input_shapes: Mapping[str, tuple[int, ...]],
    input_types: Mapping[str, Any] | None,
    rng: jax.Array,
) -> FlaxOptimTrainState:
    return FlaxOptimTrainState.create(optimizer_def, init_fn(rng, input_shapes, input_types))


def num_parameters(train_state: FlaxOptimTrainState) -> int:
    """How many numbers the model learns."""
    return sum(leaf.size for leaf in jax.tree.leaves(train_state.params))
