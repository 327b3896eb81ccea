"""The training stream: a pure function of (data, seed, step), the same for any number of hosts.

Each task of the mixture is tokenised once, by SeqIO, and indexed. A *draw* is one example's turn in the mixture; draw n
always gives the same example: its task by the mixture's rates, its place in the task's n-th pass by a seeded shuffle. A
batch takes the draws that follow the last one's and packs them into rows until one fits into no row; that one opens the
next batch. So nothing is dropped, every example of a pass is seen exactly once, and the position in the stream is one
integer, saved with the checkpoint.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction

import numpy as np
import seqio
import tensorflow as tf

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


@dataclasses.dataclass(frozen=True)
class TokenizedTask:
    """All examples of one task's split, token ids end to end.

    Attributes:
      tokens: feature -> int32 [total_tokens].
      offsets: feature -> int64 [num_examples + 1]; example i has tokens[offsets[i]:offsets[i + 1]].
    """

    name: str
    tokens: Mapping[str, np.ndarray]
    offsets: Mapping[str, np.ndarray]

    @property
    def num_examples(self) -> int:
        return len(next(iter(self.offsets.values()))) - 1

    def feature(self, name: str, index: int) -> np.ndarray:
        """int32 [length] of one example."""
        start, stop = self.offsets[name][index : index + 2]
        return self.tokens[name][start:stop]

    def lengths(self, name: str) -> np.ndarray:
        """int64 [num_examples], in tokens."""
        return np.diff(self.offsets[name])


def tokenize_task(
    task: seqio.Task,
    *,
    split: str,
    lengths: Mapping[str, int],
    features: Sequence[str],
    use_cached: bool = False,
) -> TokenizedTask:
    """Runs SeqIO's pipeline once over a split, trimmed to `lengths`.

    Raises:
      ValueError: if the split holds no example.
    """
    dataset = task.get_dataset(
        sequence_length=dict(lengths), split=split, shuffle=False, num_epochs=1, use_cached=use_cached, seed=0
    )
    rows: dict[str, list[np.ndarray]] = {name: [] for name in features}
    try:
        for example in dataset.as_numpy_iterator():
            for name in features:
                rows[name].append(np.asarray(example[name][: lengths[name]], np.int32))
    except (tf.errors.DataLossError, tf.errors.NotFoundError) as error:
        raise ValueError(
            f"{task.name}/{split}: cannot be read: {error.message}. Write the records again."
        ) from error
    if not rows[features[0]]:
        raise ValueError(
            f"{task.name}/{split}: no examples; prepare the dataset again, or choose another split."
        )
    return TokenizedTask(
        name=task.name,
        tokens={name: np.concatenate(values) for name, values in rows.items()},
        offsets={name: np.cumsum([0, *map(len, values)]) for name, values in rows.items()},
    )


def shuffled(num_examples: int, *, seed: int, salt: str, epoch: int) -> np.ndarray:
    """int64 [num_examples], a permutation: the order of one pass. The same on every machine and NumPy version."""
    with np.errstate(over="ignore"):
        state = np.uint64(seed) ^ (np.uint64(epoch) << np.uint64(32))
        for byte in salt.encode():
            state = _mix(state + np.uint64(byte))
        keys = _mix(state + np.arange(1, num_examples + 1, dtype=np.uint64) * _GOLDEN)
    return np.argsort(keys, kind="stable")


def _mix(bits: np.ndarray | np.uint64) -> np.ndarray | np.uint64:
    """SplitMix64's output function (Steele, Lea and Flood 2014): every input bit moves every output bit."""
    with np.errstate(over="ignore"):
        bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))


def task_of_draw(draw: int, rates: Sequence[Fraction]) -> tuple[int, int]:
    """Which task the draw goes to, and how many earlier draws went there.

    Tasks take turns in proportion to their rates, as evenly as possible: with rates 1 and 1 every other draw. The first
    task takes its share of all draws, the second its share of what is left, and so on.
    """
    left = sum(rates)
    for index, rate in enumerate(rates):
        taken = draw * rate // left
        if (draw + 1) * rate // left > taken:
            return index, taken
        draw -= taken
        left -= rate
    raise AssertionError("the last task takes every draw that is left")


class TrainStream:
    """Batches of a task or mixture, from any step on."""

    def __init__(
        self,
        tasks: Sequence[TokenizedTask],
        rates: Sequence[float],
        *,
        converter_cls: type[seqio.FeatureConverter],
        lengths: Mapping[str, int],
        batch_size: int,
        seed: int,
        shuffle: bool = True,
        pack: bool = True,
        shard_id: int = 0,
        num_shards: int = 1,
        num_epochs: int | None = None,
    ) -> None:
        """Prepares the stream; no batch is made yet.

        Args:
          tasks: tokenised examples with every feature of `converter_cls.TASK_FEATURES`.
          rates: of the tasks in the mixture, any positive scale.
          lengths: feature -> row length in tokens.
          batch_size: rows of the global batch.
          seed: of the order.
          pack: whether a row holds as many examples as fit, or one.
          shard_id, num_shards: which rows of the global batch this process makes.
          num_epochs: passes over the data (only for a single task); None goes on for ever. The last batch of the last
            pass is filled up with empty rows.
        """
        if num_epochs is not None and len(tasks) != 1:
            raise ValueError(f"num_epochs={num_epochs} needs one task, got {[task.name for task in tasks]}.")
        self._tasks = tasks
        self._rates = [Fraction(rate).limit_denominator(10**6) for rate in rates]
        self._lengths = dict(lengths)
        self._batch_size, self._seed, self._shuffle, self._pack = batch_size, seed, shuffle, pack
        self._rows = range(
            shard_id * batch_size // num_shards,
            (shard_id + 1) * batch_size // num_shards,
        )
        self._num_draws = None if num_epochs is None else num_epochs * tasks[0].num_examples
        self._converter = _prepacked(converter_cls)(pack=pack)
        self._task_lengths = [np.stack([task.lengths(name) for name in lengths], axis=1) for task in tasks]
        self._orders: dict[int, tuple[int, np.ndarray]] = {}

    def example_of_draw(self, draw: int) -> tuple[int, int]:
        """(task index, example index) of a draw."""
        task, turn = task_of_draw(draw, self._rates)
        epoch, place = divmod(turn, self._tasks[task].num_examples)
        if not self._shuffle:
            return task, place
        # Taken and put as one pair: several iterators, each in its own thread, may be in different passes.
        known_epoch, order = self._orders.get(task, (-1, np.zeros(0, np.int64)))
        if known_epoch != epoch:
            of_task = self._tasks[task]
            order = shuffled(of_task.num_examples, seed=self._seed, salt=of_task.name, epoch=epoch)
            self._orders[task] = epoch, order
        return task, int(order[place])

    def plan(self, first_draw: int) -> tuple[list[list[tuple[int, int]]], int]:
        """The examples of each row of the batch that begins with `first_draw`, and the next batch's first draw."""
        rows: list[list[tuple[int, int]]] = [[] for _ in range(self._batch_size)]
        capacity = np.array(list(self._lengths.values()))  # [features]
        free = np.tile(capacity, (self._batch_size, 1))  # [rows, features]
        draw = first_draw
        while self._num_draws is None or draw < self._num_draws:
            task, index = self.example_of_draw(draw)
            need = self._task_lengths[task][index]  # [features]
            fits = np.flatnonzero((free >= need).all(axis=1) if self._pack else free[:, 0] == capacity[0])
            if not len(fits):
                break
            row = int(fits[0])
            rows[row].append((task, index))
            free[row] -= need if self._pack else capacity
            draw += 1
        return rows, draw

    def batches(self, *, step: int, first_draw: int) -> Iterator[tuple[dict[str, np.ndarray], int]]:
        """Batches from `step` on, this process's rows, each with the first draw that it has left.

        A batch maps model features to arrays [rows, length]; rows are made ahead of use in another thread. With the
        draw, the stream goes on from the next step: `batches(step=step + 1, first_draw=draw)`.
        """
        draw_after: dict[int, int] = {}
        packed = tf.data.Dataset.from_generator(
            lambda: self._packed_rows(step, first_draw, draw_after), output_signature=self._row_signature()
        )
        dataset = self._converter(packed, self._lengths)
        dataset = dataset.batch(len(self._rows), drop_remainder=True).prefetch(2)
        for batch in dataset.as_numpy_iterator():
            yield batch, draw_after.pop(step)
            step += 1

    def _packed_rows(
        self, step: int, draw: int, draw_after: dict[int, int]
    ) -> Iterator[dict[str, np.ndarray]]:
        """Rows of one batch after another; the draw after a step's batch is in `draw_after` before its rows are out."""
        while self._num_draws is None or draw < self._num_draws:
            rows, draw = self.plan(draw)
            draw_after[step] = draw
            step += 1
            for row in self._rows:
                yield self._pack_row(rows[row])

    def _pack_row(self, examples: Sequence[tuple[int, int]]) -> dict[str, np.ndarray]:
        """One row under SeqIO's names: tokens, and which example (from 1) and place in it each token has."""
        row = {name: np.zeros(shape, np.int32) for name, shape in self._row_shapes().items()}
        for name in self._lengths:
            start = 0
            for segment, (task, index) in enumerate(examples, start=1):
                tokens = self._tasks[task].feature(name, index)
                stop = start + len(tokens)
                row[name][start:stop] = tokens
                if self._pack:
                    row[f"{name}_segment_ids"][start:stop] = segment
                    row[f"{name}_positions"][start:stop] = np.arange(len(tokens))
                start = stop
        return row

    def _row_shapes(self) -> dict[str, int]:
        suffixes = ("", "_segment_ids", "_positions") if self._pack else ("",)
        return {name + suffix: length for name, length in self._lengths.items() for suffix in suffixes}

    def _row_signature(self) -> dict[str, tf.TensorSpec]:
        return {name: tf.TensorSpec([length], tf.int32) for name, length in self._row_shapes().items()}


def _prepacked(converter_cls: type[seqio.FeatureConverter]) -> type[seqio.FeatureConverter]:
    """`converter_cls` for rows that are packed already: every converter's own features, our packing."""

    class Prepacked(converter_cls):
        def _pack_or_pad(self, ds, packed_lengths):
            return ds

    return Prepacked


def padding_fraction(batch: Mapping[str, np.ndarray]) -> float:
    """The share of a batch's encoder and decoder tokens that are padding."""
    tokens = [batch[name] for name in ("encoder_input_tokens", "decoder_target_tokens") if name in batch]
    return 1.0 - sum(int(np.count_nonzero(t)) for t in tokens) / sum(t.size for t in tokens)
