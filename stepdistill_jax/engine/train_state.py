"""What a training step changes: step number, parameters, optimizer state."""

from collections.abc import Mapping
from typing import Any

import flax
import jax
import jax.numpy as jnp
from flax.linen import partitioning as flax_partitioning

from stepdistill_jax.engine import optimizers

PyTree = Any


@flax.struct.dataclass
class FlaxOptimTrainState:
    """T5X's train state. A pytree: every leaf is an array; `params_axes` and the optimizer's definition have none.

    Attributes:
      step: int32 scalar, steps taken.
      params: nested dict of parameters, T5X's paths.
      param_states: the optimizer's state beside its step, for T5X's Adafactor a nested dict of the same paths.
      params_axes: nested dict of `AxisMetadata`, the logical axes of every parameter.
    """

    step: jax.Array
    params: PyTree
    param_states: PyTree
    params_axes: PyTree
    optimizer_def: optimizers.OptimizerDef = flax.struct.field(pytree_node=False)

    @classmethod
    def create(
        cls, optimizer_def: optimizers.OptimizerDef, model_variables: Mapping[str, Any]
    ) -> "FlaxOptimTrainState":
        """The state before the first step, from `model.get_initial_variables`."""
        variables = flax.core.unfreeze(model_variables)
        params, params_axes = variables["params"], variables["params_axes"]
        optimizer_def.set_param_axes(logical_axes_of(params_axes))
        state = optimizer_def.init_state(params)
        return cls(
            step=jnp.asarray(state.step, jnp.int32),
            params=params,
            param_states=state.param_states,
            params_axes=params_axes,
            optimizer_def=optimizer_def,
        )

    def apply_gradient(self, grads: PyTree, learning_rate: jax.Array) -> "FlaxOptimTrainState":
        """The state after one optimizer step."""
        params, state = self.optimizer_def.apply_gradient(
            self.optimizer_def.update_hyper_params(learning_rate=learning_rate),
            self.params,
            optimizers.OptimizerState(self.step, self.param_states),
            grads,
        )
        return self.replace(step=state.step, params=params, param_states=state.param_states)

    def state_dict(self) -> dict[str, Any]:
        """The arrays under T5X's names: {'target': params, 'state': {'step', 'param_states'}}."""
        return {
            "target": self.params,
            "state": {
                "step": self.step,
                "param_states": flax.serialization.to_state_dict(self.param_states),
            },
        }

    def restore_state(self, state_dict: Mapping[str, Any]) -> "FlaxOptimTrainState":
        """This state with the arrays of `state_dict` (see `state_dict`)."""
        state = state_dict["state"]
        return self.replace(
            step=state["step"],
            params=state_dict["target"],
            param_states=flax.serialization.from_state_dict(self.param_states, state["param_states"]),
        )

    def as_logical_axes(self) -> "FlaxOptimTrainState":
        """This state with logical axes in place of arrays: those of a parameter also on state of the same shape.

        State of another shape (Adafactor's rows and columns, step counts) is small, and gets None: a copy everywhere.
        """
        axes_of_path = {
            _names(path): (leaf.shape, axes)
            for (path, leaf), axes in zip(
                jax.tree_util.tree_leaves_with_path(self.params),
                jax.tree.leaves(
                    logical_axes_of(self.params_axes), is_leaf=lambda leaf: isinstance(leaf, tuple)
                ),
                strict=True,
            )
        }

        def axes_of_state(path: tuple[Any, ...], leaf: jax.Array) -> tuple[str, ...] | None:
            names = _names(path)
            for start in range(len(names)):
                for stop in range(len(names), start, -1):
                    shape, axes = axes_of_path.get(names[start:stop], (None, None))
                    if shape is not None:
                        return axes if shape == leaf.shape else None
            return None

        return self.replace(
            step=None,
            params=logical_axes_of(self.params_axes),
            param_states=jax.tree_util.tree_map_with_path(axes_of_state, self.param_states),
        )


def logical_axes_of(params_axes: PyTree) -> PyTree:
    """{'kernel_axes': AxisMetadata(names)} as flax collects it, to {'kernel': names}, tuples of str."""
    if isinstance(params_axes, flax_partitioning.AxisMetadata):
        return tuple(params_axes.names)
    return {key.removesuffix("_axes"): logical_axes_of(value) for key, value in params_axes.items()}


def _names(path: tuple[Any, ...]) -> tuple[str, ...]:
    return tuple(str(getattr(key, "key", getattr(key, "name", getattr(key, "idx", key)))) for key in path)
