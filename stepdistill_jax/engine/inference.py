"""Decoding a whole dataset: batches of one shape, results in the dataset's order."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
import tensorflow as tf
from jax.sharding import PartitionSpec

from stepdistill_jax.engine.partitioning import PjitPartitioner
from stepdistill_jax.engine.train_state import FlaxOptimTrainState

InferFn = Callable[[tf.data.Dataset, FlaxOptimTrainState], list[tuple[int, Any]]]


def get_infer_fn(
    infer_step: Callable[[Any, Mapping[str, jax.Array]], Any],
    batch_size: int,
    train_state_axes: FlaxOptimTrainState,
    partitioner: PjitPartitioner,
) -> InferFn:
    """A function from an enumerated dataset to [(index, output), …], as `seqio.Evaluator` wants it.

    Args:
      infer_step: (params, batch) -> outputs with a row per example, e.g. `model.predict_batch`.
      batch_size: rows decoded at a time; a last batch that is not full is filled up and cut again.
      train_state_axes: a PartitionSpec for every array of the state.
      partitioner: of parameters and batch.
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

    def infer(dataset: tf.data.Dataset, train_state: FlaxOptimTrainState) -> list[tuple[int, Any]]:
        results: list[tuple[int, Any]] = []
        for indices, batch in _full_batches(dataset.as_numpy_iterator(), batch_size):
            local = {name: values[rows] for name, values in batch.items()}
            outputs = jax.tree.map(np.asarray, step(train_state.params, partitioner.global_batch(local)))
            results += [
                (index, jax.tree.map(lambda values, row=row: values[row], outputs))
                for row, index in enumerate(indices)
            ]
        return results

    return infer


def _full_batches(
    enumerated: Iterable[tuple[int, Mapping[str, np.ndarray]]], batch_size: int
) -> Iterator[tuple[list[int], dict[str, np.ndarray]]]:
    iterator = iter(enumerated)
    while group := list(itertools.islice(iterator, batch_size)):
        indices = [int(index) for index, _ in group]
        examples = [example for _, example in group]
        examples += [examples[-1]] * (batch_size - len(examples))
        yield indices, {name: np.stack([example[name] for example in examples]) for name in examples[0]}
