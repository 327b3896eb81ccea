"""One training step, pure and short, and what compiles it over the mesh."""

import copy
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from stepdistill_jax.engine.model import base_model
from stepdistill_jax.engine.model.layer_stacks import LayerPlan
from stepdistill_jax.engine.optim.schedules import LearningRateFn
from stepdistill_jax.engine.optim.train_state import FlaxOptimTrainState
from stepdistill_jax.engine.partition.partitioning import PjitPartitioner, PjittedFnWithContext
from stepdistill_jax.engine.step.weight_metrics import WeightMetricsComputer

Batch = Mapping[str, jax.Array]
Metrics = Mapping[str, Any]
# As few microbatches as fit: `fitting.resolve` finds how many those are.
AUTO = "auto"


def accumulate_gradients(
    model: base_model.BaseModel,
    params: Any,
    batch: Batch,
    dropout_rng: jax.Array | None,
    num_microbatches: int | None,
) -> tuple[Any, Metrics]:
    """The gradient of the loss over the global batch, and its metrics.

    The loss is a sum over tokens with weights of the whole batch (`with_loss_weights`), so gradients of microbatches
    add up to that of the batch.

    Args:
      num_microbatches: parts that the batch is worked through in, to save memory; None, 0 or 1 does it at once.
    """
    batch = model.with_loss_weights(batch)
    gradient = jax.grad(model.loss_fn, has_aux=True)
    if num_microbatches is None or num_microbatches <= 1:
        return gradient(params, batch, dropout_rng)

    # Every n-th row goes to the same part: each device then has rows of every part, and none has to move.
    parts = jax.tree.map(
        lambda rows: jnp.swapaxes(rows.reshape(-1, num_microbatches, *rows.shape[1:]), 0, 1), batch
    )

    def add_part(totals: Any, part_and_index: tuple[Batch, jax.Array]):
        part, index = part_and_index
        rng = None if dropout_rng is None else jax.random.fold_in(dropout_rng, index)
        grads, metrics = gradient(params, part, rng)
        return jax.tree.map(jnp.add, totals, grads), metrics

    # From zeros on: with the first part outside of the loop, the step would be compiled twice.
    zeros = jax.tree.map(jnp.zeros_like, params)
    grads, of_parts = jax.lax.scan(add_part, zeros, (parts, jnp.arange(num_microbatches)))
    metrics = [jax.tree.map(lambda values, n=n: values[n], of_parts) for n in range(num_microbatches)]
    merged = {
        name: functools.reduce(
            lambda total, metric: total.merge(metric), [of_part[name] for of_part in metrics]
        )
        for name in of_parts
    }
    # The parts were one step: a mean over steps counts them once.
    return grads, {
        name: metric.replace(steps=1) if hasattr(metric, "steps") else metric
        for name, metric in merged.items()
    }


class Trainer:
    """Compiles a model's training and evaluation step over a mesh. T5X's name.

    Attributes:
      num_microbatches: as given.
      layers: how the training step computes the model's layers; None: as the model's config says.
      eval_step: (params, batch) -> metrics, without dropout.
    """

    def __init__(
        self,
        model: base_model.BaseModel,
        train_state_axes: FlaxOptimTrainState,
        partitioner: PjitPartitioner,
        rng: jax.Array,
        learning_rate_fn: LearningRateFn,
        num_microbatches: int | str | None = None,
        weight_metrics_computer: WeightMetricsComputer | None = None,
    ) -> None:
        """Prepares the steps; the first call of each compiles.

        Args:
          model: gives the loss, metrics and loss weights.
          train_state_axes: a PartitionSpec for every array of the state.
          partitioner: of state and batch.
          rng: key of dropout; step n uses the key folded with n, so that it does not depend on where a run began.
          learning_rate_fn: step -> learning rate.
          num_microbatches: parts of a batch that are worked through one after another; None, 0 or 1 is all at once. 'auto' is
            as few as fit into memory: this trainer then takes no step, and `fitting.resolve` gives one that does.
          weight_metrics_computer: adds metrics of the size of weights, gradients and updates to every step.

        Raises:
          ValueError: if num_microbatches is none of these.
        """
        _check_number(num_microbatches)
        batch_spec = partitioner.data_partition_spec

        def build_step(
            num_microbatches: int | None, layers: LayerPlan | None = None, *, as_written: bool = False
        ) -> PjittedFnWithContext:
            trained = model
            if layers is not None:
                trained = base_model.with_config(
                    model, scan_layers=layers.scan_layers, remat_policy=layers.remat_policy
                )

            def train_step(state: FlaxOptimTrainState, batch: Batch):
                learning_rate = learning_rate_fn(state.step)
                grads, metrics = accumulate_gradients(
                    trained, state.params, batch, jax.random.fold_in(rng, state.step), num_microbatches
                )
                new_state = state.apply_gradient(grads, learning_rate)
                if weight_metrics_computer is not None:
                    metrics = {
                        **metrics,
                        **weight_metrics_computer.compute_metrics(grads, state, new_state),
                    }
                return new_state, metrics, learning_rate

            return partitioner.partition(
                train_step,
                in_axis_resources=(train_state_axes, batch_spec),
                out_axis_resources=(train_state_axes, PartitionSpec(), PartitionSpec()),
                donate_argnums=(0,),
                **({"as_written": True} if as_written else {}),  # partitioners of others need not know it
            )

        def eval_step(params: Any, batch: Batch) -> Metrics:
            return model.eval_fn(params, model.with_loss_weights(batch))[1]

        self.num_microbatches = num_microbatches
        self.layers: LayerPlan | None = None
        self._build_step = build_step
        self._train_step = None if num_microbatches == AUTO else build_step(num_microbatches)
        self.eval_step: Callable[..., Any] = partitioner.partition(
            eval_step,
            in_axis_resources=(train_state_axes.params, batch_spec),
            out_axis_resources=PartitionSpec(),
        )

    @property
    def train_step(self) -> PjittedFnWithContext:
        """(state, batch) -> (state, metrics, learning rate). The old state's memory is reused: do not keep it.

        Raises:
          ValueError: if num_microbatches is still 'auto'.
        """
        if self._train_step is None:
            raise ValueError(
                "Trainer.num_microbatches='auto' is no number yet; train and precompile find one "
                "(step.fitting.resolve); elsewhere give Trainer one, or use trainer.with_microbatches(1)."
            )
        return self._train_step

    def with_microbatches(self, num_microbatches: int | None, layers: LayerPlan | None = None) -> "Trainer":
        """This trainer with another number of microbatches, and its layers computed by a plan; eval_step is shared.

        What its step needs of the memory is then what it says: a GPU's compiler computes nothing of it a second time.
        """
        trainer = copy.copy(self)
        trainer.num_microbatches, trainer.layers = num_microbatches, layers
        trainer._train_step = self._build_step(num_microbatches, layers, as_written=True)
        return trainer


def _check_number(num_microbatches: Any) -> None:
    if num_microbatches is None or num_microbatches == AUTO:
        return
    if isinstance(num_microbatches, bool) or not isinstance(num_microbatches, int) or num_microbatches < 0:
        raise ValueError(
            f"num_microbatches={num_microbatches!r}; use 1 or more, None for the whole batch at once, or 'auto' for as few "
            "as fit into the device's memory."
        )
