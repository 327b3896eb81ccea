"""A checkpoint, ours or T5X's, as the T5 that it holds: its sizes, and every parameter where it lies."""

import dataclasses
from collections.abc import Sequence

from stepdistill_jax.interop.checkpoint_arrays import Opened
from stepdistill_jax.interop.lazy_array import LazyArray
from stepdistill_jax.interop.parameter import Parameter, of_checkpoint
from stepdistill_jax.interop.run_facts import RunFacts
from stepdistill_jax.interop.t5.parameter_names import parameters
from stepdistill_jax.interop.t5.sizes import T5Sizes, sizes_of_shapes


@dataclasses.dataclass(frozen=True)
class T5Checkpoint:
    """Attributes:
    step: of training.
    sizes: read off the parameters; activations from the run's student.json or config.gin, where there is one beside the checkpoint.
    parameters: each with its numbers, none of which is read yet; the embedding first.
    run: what the gin file beside it says.
    """

    step: int
    sizes: T5Sizes
    parameters: Sequence[tuple[Parameter, LazyArray]]
    run: RunFacts


def t5_checkpoint(opened: Opened) -> T5Checkpoint:
    """What an opened checkpoint is.

    Raises:
      ValueError: lists every parameter that is not a T5's, or is of another shape.
    """
    shapes = {name: array.shape for name, array in opened.arrays.items()}
    sizes = sizes_of_shapes(shapes, mlp_activations=opened.run.mlp_activations)
    matched = of_checkpoint(parameters(sizes), opened.arrays, path=opened.path, kind="T5")
    return T5Checkpoint(opened.step, sizes, matched, opened.run)
