"""Decoding a whole dataset: batches of examples of like length, results in the dataset's order.

Within a window of batches the examples are put in order of their inputs' length, the longest first, and a batch's inputs are cut
to the shortest of a few lengths that holds them: the network then works less on padding, and the step compiles once a length.
Rows of inputs and targets together keep the room for their targets.
"""

import functools
import inspect
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import PartitionSpec

from stepdistill_jax.engine.evaluate import rows_at_once
from stepdistill_jax.engine.model import base_model
from stepdistill_jax.engine.optim.train_state import FlaxOptimTrainState
from stepdistill_jax.engine.partition.partitioning import PjitPartitioner

_INPUTS = "encoder_input_tokens"
_JOINED = "decoder_causal_attention"  # of rows with inputs and targets: 1 on the inputs and one place further
_LIMIT = "max_decode_steps_hard_limit"  # of a decode_fn: tokens that it decodes at most
_BATCHES_A_WINDOW = 256  # held in memory and put in order of length
_FEWEST_BATCHES_TO_CUT = 8
_NUM_LENGTHS = 4
_ROUNDED_TO = 8  # tokens

# A tf.data.Dataset, or plainly (index, example) after (index, example).
Enumerated = Any
InferFn = Callable[[Enumerated, FlaxOptimTrainState], list[tuple[int, Any]]]


def prediction_step(
    model: base_model.BaseModel, targets_length: int | None, *, with_aux: bool = False
) -> Callable[[Any, Mapping[str, jax.Array]], Any]:
    """A step for `get_infer_fn`: `predict_batch`, or `predict_batch_with_aux`, of at most so many tokens a row.

    Rows of inputs and targets together would let what has no end go on to the end of the row.
    """
    whole = model.predict_batch_with_aux if with_aux else model.predict_batch
    known = inspect.signature(getattr(model, "decode_fn", None) or whole).parameters
    own = not with_aux and type(model).predict_batch is not base_model.BaseModel.predict_batch
    if targets_length is None or own or _LIMIT not in known:
        return lambda params, batch: whole(params, batch)

    def step(params: Any, batch: Mapping[str, jax.Array]) -> Any:
        if _JOINED not in batch:
            return whole(params, batch)
        outputs = model.predict_batch_with_aux(params, batch, decoder_params={_LIMIT: targets_length})
        return outputs if with_aux else outputs[0]

    return step


def get_infer_fn(
    infer_step: Callable[[Any, Mapping[str, jax.Array]], Any],
    batch_size: int | str,
    train_state_axes: FlaxOptimTrainState,
    partitioner: PjitPartitioner,
    keep_aux_as_numpy: bool = False,
    targets_length: int | None = None,
) -> InferFn:
    """A function from an enumerated dataset, a tf.data.Dataset or an iterable of NumPy features, to [(index, output), …], as `seqio.Evaluator` wants it.

    Args:
      infer_step: (params, batch) -> outputs with a row per example, e.g. `model.predict_batch`.
      batch_size: rows decoded at a time, or 'auto' (`rows_at_once`); a last batch that is not full is filled up and cut again.
      train_state_axes: a PartitionSpec for every array of the state.
      partitioner: of parameters and batch.
      keep_aux_as_numpy: taken for T5X's sake; outputs are always NumPy arrays.
      targets_length: tokens that are wanted of each row's targets. Only rows of inputs and targets together need it, to be cut:
        whatever is decoded behind so many tokens is left out, as it depends on how long the inputs of other rows are. None
        leaves these rows, and what comes of them, as they are.
    """
    if batch_size != rows_at_once.AUTO:
        partitioner.get_data_layout(batch_size)
    # Results come back whole on every host, so that each can compute the metrics.
    step = partitioner.partition(
        infer_step,
        in_axis_resources=(train_state_axes.params, partitioner.data_partition_spec),
        out_axis_resources=PartitionSpec(),
        # What it needs is to be what it says.
        **({"as_written": True} if batch_size == rows_at_once.AUTO else {}),
    )

    @functools.cache
    def rows_here(num_rows: int) -> slice:
        """Of a batch of so many rows, those that this process reads."""
        layout = partitioner.get_data_layout(num_rows)
        return slice(
            *(shard * num_rows // layout.num_shards for shard in (layout.shard_id, layout.shard_id + 1))
        )

    # Number of examples and shapes of their features -> rows that are decoded at a time.
    found: dict[Any, int] = {}

    def decoded(examples: Sequence[Mapping[str, np.ndarray]], params: Any) -> dict[int, Any]:
        if batch_size != rows_at_once.AUTO:
            return decoded_by(batch_size, examples, params)
        shapes = sorted((name, values.shape) for name, values in examples[0].items())
        key = (len(examples), *shapes)
        if key not in found:
            found[key] = rows_at_once.as_many_as_fit(
                step,
                partitioner.placed_shapes(params, train_state_axes.params),
                lambda rows: {name: np.stack([values] * rows) for name, values in examples[0].items()},
                len(examples),
                partitioner,
            )
        while True:
            try:
                return decoded_by(found[key], examples, params)
            except jax.errors.JaxRuntimeError as error:
                found[key] = rows_at_once.half(found[key], partitioner.data_mesh_size, error)

    def decoded_by(
        num_rows: int, examples: Sequence[Mapping[str, np.ndarray]], params: Any
    ) -> dict[int, Any]:
        """Place of an example -> what was decoded."""
        outputs: dict[int, Any] = {}
        for places, batch in _batches(examples, num_rows, targets_length):
            local = {name: values[rows_here(num_rows)] for name, values in batch.items()}
            of_batch = jax.tree.map(np.asarray, step(params, partitioner.global_batch(local)))
            if _JOINED in batch and targets_length is not None:
                of_batch = _first_tokens(of_batch, targets_length, of_rows=batch[_JOINED].shape[1])
            for row, place in enumerate(places):
                outputs[place] = jax.tree.map(lambda values, row=row: values[row], of_batch)
        return outputs

    def infer(dataset: Enumerated, train_state: FlaxOptimTrainState) -> list[tuple[int, Any]]:
        results: list[tuple[int, Any]] = []
        enumerated = dataset.as_numpy_iterator() if hasattr(dataset, "as_numpy_iterator") else iter(dataset)
        in_window = rows_at_once.number_of(batch_size) * _BATCHES_A_WINDOW
        while window := list(itertools.islice(enumerated, in_window)):
            outputs = decoded([example for _, example in window], train_state.params)
            results += [(int(index), outputs[place]) for place, (index, _) in enumerate(window)]
        return results

    return infer


def _batches(
    examples: Sequence[Mapping[str, np.ndarray]], batch_size: int, room: int | None
) -> Iterator[tuple[list[int], dict[str, np.ndarray]]]:
    """(places of the examples, features of `batch_size` rows): the last batch is filled up with its last example."""
    lengths = [_input_length(example, room) for example in examples]
    if len(examples) > batch_size * _FEWEST_BATCHES_TO_CUT:
        order = sorted(range(len(examples)), key=lambda place: -(lengths[place] or 0))
    else:  # compiling for further lengths would take longer than it saves
        order, lengths = list(range(len(examples))), [None] * len(examples)
    for start in range(0, len(order), batch_size):
        places = order[start : start + batch_size]
        filled = [examples[place] for place in places + places[-1:] * (batch_size - len(places))]
        batch = {name: np.stack([example[name] for example in filled]) for name in filled[0]}
        yield places, _cut(batch, lengths[places[0]], room)


def _input_length(example: Mapping[str, np.ndarray], room: int | None) -> int | None:
    """Up to the last token of the inputs that is not padding; None for rows that are not to be cut."""
    inputs = example.get(_INPUTS)
    if inputs is None and _JOINED in example and room is not None:
        return int(np.count_nonzero(example[_JOINED])) - 1
    if inputs is None or inputs.ndim == 0:
        return None
    used = np.flatnonzero(inputs.reshape(len(inputs), -1).any(axis=1))
    return int(used[-1]) + 1 if len(used) else 0


def _cut(batch: dict[str, np.ndarray], longest: int | None, room: int | None) -> dict[str, np.ndarray]:
    """A batch whose inputs end at the first of a few lengths that holds `longest` tokens."""
    if longest is None:
        return batch
    side, of_targets = ("encoder_", 0) if _INPUTS in batch else ("decoder_", room)
    row_length = batch[_INPUTS if _INPUTS in batch else _JOINED].shape[1]
    whole = row_length - of_targets
    steps = [
        math.ceil(whole * part / _NUM_LENGTHS / _ROUNDED_TO) * _ROUNDED_TO for part in range(1, _NUM_LENGTHS)
    ]
    length = min((step for step in steps if longest <= step), default=whole) + of_targets
    return {name: values[:, :length] if name.startswith(side) else values for name, values in batch.items()}


def _first_tokens(outputs: Any, number: int, *, of_rows: int) -> Any:
    """Outputs whose token ids, [rows, …, of_rows] integers, are cut to the first `number`."""
    return jax.tree.map(
        lambda values: (
            values[..., :number]
            if values.ndim > 1 and values.shape[-1] == of_rows and values.dtype.kind == "i"
            else values
        ),
        outputs,
    )
