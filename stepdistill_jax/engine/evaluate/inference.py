"""Decoding a whole dataset: batches of examples of like length, results in the dataset's order.

Within a window of batches the examples are put in order of their inputs' length, the longest first, and a batch's inputs are cut
to the shortest of a few lengths that holds them: the encoder then works less on padding, and the step compiles once a length.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import PartitionSpec

from stepdistill_jax.engine.optim.train_state import FlaxOptimTrainState
from stepdistill_jax.engine.partition.partitioning import PjitPartitioner

_INPUTS = "encoder_input_tokens"
_BATCHES_A_WINDOW = 256  # held in memory and put in order of length
_FEWEST_BATCHES_TO_CUT = 8
_NUM_LENGTHS = 4
_ROUNDED_TO = 8  # tokens

# A tf.data.Dataset, or plainly (index, example) after (index, example).
Enumerated = Any
InferFn = Callable[[Enumerated, FlaxOptimTrainState], list[tuple[int, Any]]]


def get_infer_fn(
    infer_step: Callable[[Any, Mapping[str, jax.Array]], Any],
    batch_size: int,
    train_state_axes: FlaxOptimTrainState,
    partitioner: PjitPartitioner,
    keep_aux_as_numpy: bool = False,
) -> InferFn:
    """A function from an enumerated dataset, a tf.data.Dataset or an iterable of NumPy features, to [(index, output), …], as `seqio.Evaluator` wants it.

    Args:
      infer_step: (params, batch) -> outputs with a row per example, e.g. `model.predict_batch`.
      batch_size: rows decoded at a time; a last batch that is not full is filled up and cut again.
      train_state_axes: a PartitionSpec for every array of the state.
      partitioner: of parameters and batch.
      keep_aux_as_numpy: taken for T5X's sake; outputs are always NumPy arrays.
    """
    layout = partitioner.get_data_layout(batch_size)
    rows = slice(
        layout.shard_id * batch_size // layout.num_shards,
        (layout.shard_id + 1) * batch_size // layout.num_shards,
    )
    # Results come back whole on every host, so that each can compute the metrics.
    step = partitioner.partition(
        infer_step,
        in_axis_resources=(train_state_axes.params, partitioner.data_partition_spec),
        out_axis_resources=PartitionSpec(),
    )

    def infer(dataset: Enumerated, train_state: FlaxOptimTrainState) -> list[tuple[int, Any]]:
        results: list[tuple[int, Any]] = []
        enumerated = dataset.as_numpy_iterator() if hasattr(dataset, "as_numpy_iterator") else iter(dataset)
        while window := list(itertools.islice(enumerated, batch_size * _BATCHES_A_WINDOW)):
            outputs: dict[int, Any] = {}
            for places, batch in _batches([example for _, example in window], batch_size):
                local = {name: values[rows] for name, values in batch.items()}
                of_batch = jax.tree.map(np.asarray, step(train_state.params, partitioner.global_batch(local)))
                for row, place in enumerate(places):
                    outputs[place] = jax.tree.map(lambda values, row=row: values[row], of_batch)
            results += [(int(index), outputs[place]) for place, (index, _) in enumerate(window)]
        return results

    return infer


def _batches(
    examples: Sequence[Mapping[str, np.ndarray]], batch_size: int
) -> Iterator[tuple[list[int], dict[str, np.ndarray]]]:
    """(places of the examples, features of `batch_size` rows): the last batch is filled up with its last example."""
    lengths = [_input_length(example) for example in examples]
    if len(examples) > batch_size * _FEWEST_BATCHES_TO_CUT:
        order = sorted(range(len(examples)), key=lambda place: -lengths[place])
    else:  # compiling for further lengths would take longer than it saves
        order, lengths = list(range(len(examples))), [None] * len(examples)
    for start in range(0, len(order), batch_size):
        places = order[start : start + batch_size]
        filled = [examples[place] for place in places + places[-1:] * (batch_size - len(places))]
        batch = {name: np.stack([example[name] for example in filled]) for name in filled[0]}
        yield places, _cut(batch, lengths[places[0]])


def _input_length(example: Mapping[str, np.ndarray]) -> int | None:
    """Up to the last token that is not padding; None for a model without encoder inputs."""
    inputs = example.get(_INPUTS)
    if inputs is None or inputs.ndim == 0:
        return None
    used = np.flatnonzero(inputs.reshape(len(inputs), -1).any(axis=1))
    return int(used[-1]) + 1 if len(used) else 0


def _cut(batch: dict[str, np.ndarray], longest: int | None) -> dict[str, np.ndarray]:
    """A batch whose encoder features end at the first of a few lengths that holds `longest` tokens."""
    if longest is None:
        return batch
    whole = batch[_INPUTS].shape[1]
    steps = [
        math.ceil(whole * part / _NUM_LENGTHS / _ROUNDED_TO) * _ROUNDED_TO for part in range(1, _NUM_LENGTHS)
    ]
    length = min((step for step in steps if longest <= step), default=whole)
    return {
        name: values[:, :length] if name.startswith("encoder_") else values for name, values in batch.items()
    }
