"""The training stream: a pure function of (data, seed, step), the same for any number of hosts.

Each task of the mixture is tokenised once, by SeqIO, and indexed (`token_cache`). Which example a draw of the mixture is
(`draws`) and which draws share a batch and its rows (`packing`) are worked out from lengths alone; a process then reads
the tokens of its own rows. The position in the stream is one integer, the next draw: it is saved with the checkpoint, and
`first_draw` gives it for any step.
"""

import collections
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import seqio
import tensorflow as tf

from stepdistill_jax.base.messages import say_once
from stepdistill_jax.engine.data.draws import DrawOrder, PairedDrawOrder, said_of_uneven
from stepdistill_jax.engine.data.packing import BatchPlan, FirstFit, LengthBuckets, OneExampleARow, fill_rows
from stepdistill_jax.engine.data.row_conversion import RowConversion
from stepdistill_jax.engine.data.tokenized_task import TokenizedTask

Batch = dict[str, np.ndarray]


class TrainStream:
    """Batches of a task or mixture, from any step on.

    Attributes:
      batch_size: rows of the global batch.
    """

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
        paired: bool = False,
        length_buckets: int = 1,
        shard_id: int = 0,
        num_shards: int = 1,
        num_epochs: int | None = None,
    ) -> None:
        """Prepares the stream; no batch is made yet.

        Args:
          tasks: tokenised examples with every feature of `converter_cls.TASK_FEATURES`.
          rates: of the tasks in the mixture, any positive scale.
          lengths: feature of a task -> tokens that an example has at most; rows are as long, or as these together where the
            converter joins inputs and targets.
          batch_size: rows of the global batch.
          seed: of the order.
          pack: whether a row holds as many examples as fit, or one.
          paired: whether the examples of one id share a batch, each drawn once a pass (of several tasks).
          length_buckets: unpacked, how many row lengths there are; 1 gives every batch the longest.
          shard_id, num_shards: which rows of the global batch this process makes.
          num_epochs: passes over the data (only for a single task); None goes on for ever. The last batch of the last
            pass is filled up with empty rows.
        """
        if num_epochs is not None and len(tasks) != 1:
            raise ValueError(f"num_epochs={num_epochs} needs one task, got {[task.name for task in tasks]}.")
        if length_buckets < 1 or (pack and length_buckets > 1):
            raise ValueError(
                f"length_buckets={length_buckets} with pack={pack}; use 1 or more, and only 1 where rows are packed."
            )
        self._tasks, self._features, self._pack = tasks, list(lengths), pack
        self._rows = range(shard_id * batch_size // num_shards, (shard_id + 1) * batch_size // num_shards)
        self.batch_size = batch_size
        self._lengths_differ = length_buckets > 1
        self._conversion = RowConversion(
            converter_cls, lengths, pack=pack, lengths_differ=self._lengths_differ
        )
        self._row_examples = self._conversion.examples_of(tasks)
        paired = paired and len(tasks) > 1
        if paired and length_buckets > 1:
            raise ValueError(
                f"paired with length_buckets={length_buckets}: examples of one id differ in length; use length_buckets=1."
            )
        self._order = (
            _paired_order(tasks, rates, seed, shuffle) if paired else _order(tasks, rates, seed, shuffle)
        )
        num_draws = None if num_epochs is None else num_epochs * tasks[0].num_examples
        settings: dict[str, Any] = {
            "lengths": self._conversion.lengths,
            "batch_size": batch_size,
            "num_draws": num_draws,
        }
        if length_buckets > 1:
            settings |= {"num_buckets": length_buckets, "seed": seed, "shuffle": shuffle}
        planner = FirstFit if pack else LengthBuckets if length_buckets > 1 else OneExampleARow
        self._planner = planner(self._row_examples, self._order, **settings)

    def batch_spec(self) -> dict[str, tf.TensorSpec]:
        """Shape [batch_size, longest row] and type of every model feature of the global batch."""
        rows = tf.data.Dataset.from_tensors(
            {name: np.zeros(length, np.int32) for name, length in self._row_shapes().items()}
        )
        spec = self._conversion.converted(rows).element_spec
        return {name: tf.TensorSpec([self.batch_size, *row.shape], row.dtype) for name, row in spec.items()}

    def contents(self) -> dict[str, dict[str, int]]:
        """Examples and tokens of each task: with other data a position would mean other examples."""
        return {
            task.name: {"examples": task.num_examples}
            | {feature: int(task.offsets[feature][-1]) for feature in self._features}
            for task in self._tasks
        }

    def text_fit(self) -> dict[str, dict[str, Any]]:
        """Task -> which of its texts the vocabulary changes and which are cut (`TaskFit`)."""
        return {task.name: task.fit.as_dict() for task in self._tasks}

    def first_draw(self, step: int) -> int:
        """The draw that the batch of a step begins with; `step` counts the batches before it."""
        return self._planner.first_draw(step)

    def plans(self, first_draw: int) -> Iterator[BatchPlan]:
        """What the batches from `first_draw` on hold; no token is read."""
        return self._planner.plans(first_draw)

    def example_names(self, plan: BatchPlan) -> list[str]:
        """'<task>/<example id>' of each example of a batch, row by row."""
        by_row = np.argsort(plan.rows, kind="stable")
        return [
            f"{self._tasks[task].name}/{self._tasks[task].example_id(index)}"
            for task, index in zip(plan.tasks[by_row], plan.indices[by_row], strict=True)
        ]

    def batches(self, first_draw: int = 0, **_: Any) -> "StreamBatches":
        """The batches that begin with `first_draw`, this process's rows of them; nothing else is needed to find them."""
        return StreamBatches(self, first_draw)

    def local_batches(self, plans: Iterator[BatchPlan]) -> Iterator[Batch]:
        """Model features [rows, length] of planned batches, this process's rows, made ahead of use in another thread."""
        dataset = tf.data.Dataset.from_generator(
            lambda: (fill_rows(plan, self._row_examples, self._rows, pack=self._pack) for plan in plans),
            output_signature={
                name: tf.TensorSpec([len(self._rows), None if self._lengths_differ else length], tf.int32)
                for name, length in self._row_shapes().items()
            },
        )
        dataset = self._conversion.converted(dataset.unbatch())
        return dataset.batch(len(self._rows), drop_remainder=True).prefetch(2).as_numpy_iterator()

    def _row_shapes(self) -> dict[str, int]:
        suffixes = ("", "_segment_ids", "_positions") if self._pack else ("",)
        return {
            name + suffix: length for name, length in self._conversion.lengths.items() for suffix in suffixes
        }


def _order(tasks: Sequence[TokenizedTask], rates: Sequence[float], seed: int, shuffle: bool) -> DrawOrder:
    names, sizes = [task.name for task in tasks], [task.num_examples for task in tasks]
    if uneven := said_of_uneven(names, sizes, rates):
        say_once(uneven)
    return DrawOrder(names, sizes, rates, seed=seed, shuffle=shuffle)


def _paired_order(
    tasks: Sequence[TokenizedTask], rates: Sequence[float], seed: int, shuffle: bool
) -> PairedDrawOrder:
    unnamed = [task.name for task in tasks if task.ids is None]
    if unnamed:
        raise ValueError(f"paired: the records of {unnamed} have no `example_id` to be paired by.")
    if len(set(rates)) > 1:
        raise ValueError(
            f"paired: the mixture's rates are {list(rates)}, but every example is drawn once a pass; use equal rates."
        )
    return PairedDrawOrder(
        [task.name for task in tasks], [task.ids for task in tasks], seed=seed, shuffle=shuffle
    )


class StreamBatches:
    """An iterator over batches that knows where it is.

    Attributes:
      plan: of the batch that came last.
      next_draw: from which the stream goes on after that batch.
    """

    def __init__(self, stream: TrainStream, first_draw: int) -> None:
        self.next_draw = first_draw
        self.plan: BatchPlan | None = None
        self._stream = stream
        self._planned: collections.deque[BatchPlan] = collections.deque()
        # No reference to this object: TensorFlow's iterator holds what it makes rows of where Python's garbage collector sees no cycle.
        self._batches = stream.local_batches(_noted(stream.plans(first_draw), self._planned))

    def __iter__(self) -> "StreamBatches":
        return self

    def __next__(self) -> Batch:
        batch = next(self._batches)
        self.plan = self._planned.popleft()
        self.next_draw = self.plan.next_draw
        return batch

    @property
    def token_counts(self) -> "TokenCounts":
        """Of the last batch, over all processes; of rows of inputs and targets together under 'targets'."""
        return {
            name: (self.plan.num_tokens[name], self._stream.batch_size * self.plan.lengths[name])
            for name in ("inputs", "targets")
            if name in self.plan.lengths
        }

    def save_state(self, model_dir: Path, step: int) -> None:
        """Nothing: `next_draw` says it all."""

    def example_names(self) -> list[str]:
        """'<task>/<example id>' of each example of the last batch, over all processes."""
        return self._stream.example_names(self.plan)


def _noted(plans: Iterator[BatchPlan], planned: collections.deque[BatchPlan]) -> Iterator[BatchPlan]:
    """Keeps the plans of batches that are made ahead until they are asked for."""
    for plan in plans:
        planned.append(plan)
        yield plan


# Feature -> (tokens that are not padding, all tokens).
TokenCounts = dict[str, tuple[int, int]]


def padding_fractions(counts: TokenCounts) -> dict[str, float]:
    """The share of a batch's tokens that are padding: of all of them, and of inputs and targets where these lie apart."""
    real, size = (sum(count[place] for count in counts.values()) for place in (0, 1))
    sides = counts if len(counts) > 1 else {}
    return {
        "padding_fraction": 1.0 - real / size,
        **{f"{name}_padding_fraction": 1.0 - used / of for name, (used, of) in sides.items()},
    }
