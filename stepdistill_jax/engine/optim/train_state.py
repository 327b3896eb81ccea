"""What a training step changes: step number, parameters, optimizer state."""

from collections.abc import Mapping
from typing import Any

import flax
import jax
import jax.numpy as jnp
from flax.linen import partitioning as flax_partitioning

from stepdistill_jax.engine.optim import optimizers

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
        """This state with a tuple of logical axes in place of every array, None where it is not split."""
        axes = logical_axes_of(self.params_axes)
        state = self.optimizer_def.state_logical_axes(
            optimizers.OptimizerState(self.step, self.param_states), axes
        )
        return self.replace(step=None, params=axes, param_states=state.param_states)


# T5X's name for any of its states; this one serves training and inference.
TrainState = FlaxOptimTrainState


def logical_axes_of(params_axes: PyTree) -> PyTree:
    """{'kernel_axes': AxisMetadata(names)} as flax collects it, to {'kernel': names}, tuples of str."""
    if isinstance(params_axes, flax_partitioning.AxisMetadata):
        return tuple(params_axes.names)
    return {key.removesuffix("_axes"): logical_axes_of(value) for key, value in params_axes.items()}
