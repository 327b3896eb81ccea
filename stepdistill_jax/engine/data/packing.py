"""Which examples share a batch and its rows, and the arrays of such a batch."""

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from jaxtyping import Int32, Int64

from stepdistill_jax.engine.data.draws import DrawOrder, PairedDrawOrder, shuffled
from stepdistill_jax.engine.data.tokenized_task import TokenizedTask

# First fit looks at this many rows that are not full: on CQA, 128 rows of 192 and 128 tokens, they hold 0.4 % less than with
# all rows open, planned in a third of the time.
_OPEN_ROWS = 16
_BATCHES_A_BLOCK = 32  # of a length bucket's draws
_ROUNDED_TO = 8  # tokens: a bucket's length


@dataclasses.dataclass(frozen=True)
class BatchPlan:
    """What a global batch holds, before any token is read.

    Attributes:
      next_draw: where the next batch begins.
      tasks, indices: int64 [examples]: the task, and the example of it.
      rows: int64 [examples]: the row that holds the example; those of a row follow one another in this order.
      lengths: feature -> row length in tokens.
      num_tokens: feature -> tokens of all rows that are not padding.
    """

    next_draw: int
    tasks: Int64[np.ndarray, " examples"]
    indices: Int64[np.ndarray, " examples"]
    rows: Int64[np.ndarray, " examples"]
    lengths: Mapping[str, int]
    num_tokens: Mapping[str, int]


class _Planner:
    """What the three ways to fill a batch share."""

    def __init__(
        self,
        tasks: Sequence[TokenizedTask],
        order: DrawOrder | PairedDrawOrder,
        *,
        lengths: Mapping[str, int],
        batch_size: int,
        num_draws: int | None,
    ) -> None:
        """Args:
        order: of the tasks' examples.
        lengths: feature -> longest row in tokens.
        batch_size: rows of the global batch.
        num_draws: after which the stream ends; None for one without end.
        """
        # Unpacked, every batch has as many draws as rows; packed, what goes together needs a row each at most.
        if batch_size % order.together:
            raise ValueError(
                f"batch_size={batch_size} with paired tasks, two examples each; use an even number of rows."
            )
        self._order, self._lengths, self._batch_size = order, dict(lengths), batch_size
        self._num_draws = num_draws
        self._task_lengths = [{name: task.lengths(name) for name in lengths} for task in tasks]

    def _stop(self, stop: int) -> int:
        return stop if self._num_draws is None else min(stop, self._num_draws)

    def _example_lengths(self, tasks: np.ndarray, indices: np.ndarray) -> dict[str, np.ndarray]:
        lengths = {name: np.zeros(len(tasks), np.int64) for name in self._lengths}
        for task in np.unique(tasks):
            mine = tasks == task
            for name in lengths:
                lengths[name][mine] = self._task_lengths[task][name][indices[mine]]
        return lengths

    def _plan(
        self, next_draw: int, tasks: np.ndarray, indices: np.ndarray, rows: np.ndarray, lengths=None
    ) -> BatchPlan:
        num_tokens = {
            name: int(values.sum()) for name, values in self._example_lengths(tasks, indices).items()
        }
        return BatchPlan(next_draw, tasks, indices, rows, lengths or self._lengths, num_tokens)


class OneExampleARow(_Planner):
    """Unpacked batches: batch n holds the draws from n * batch_size on."""

    def first_draw(self, step: int) -> int:
        """Where batch `step` begins."""
        return step * self._batch_size

    def plans(self, first_draw: int) -> Iterator[BatchPlan]:
        """The batches from `first_draw` on."""
        while self._num_draws is None or first_draw < self._num_draws:
            stop = self._stop(first_draw + self._batch_size)
            tasks, indices = self._order.examples(first_draw, stop)
            yield self._plan(stop, tasks, indices, np.arange(len(tasks)))
            first_draw = stop


class LengthBuckets(_Planner):
    """Unpacked batches of examples of about the same length, cut to one of a few row lengths.

    The draws of a block of batches are put in order of length, each task's apart, so that a batch has every task in its
    share; then the batches are shuffled. Batch n holds the places from n * batch_size on in that order.
    """

    def __init__(self, *args, num_buckets: int, seed: int, shuffle: bool, **settings) -> None:
        """Takes what `_Planner` takes, and the number of row lengths.

        Args:
          num_buckets: of which each makes the train step compile once more.
          seed: of the order of a block's batches.
          shuffle: whether a block's batches are shuffled.
        """
        super().__init__(*args, **settings)
        self._num_buckets, self._seed, self._shuffle = num_buckets, seed, shuffle

    def first_draw(self, step: int) -> int:
        """Where batch `step` begins."""
        return step * self._batch_size

    def plans(self, first_draw: int) -> Iterator[BatchPlan]:
        """The batches from `first_draw` on, a multiple of the batch size."""
        block_size = self._batch_size * _BATCHES_A_BLOCK
        while self._num_draws is None or first_draw < self._num_draws:
            block, begin = divmod(first_draw, block_size)
            tasks, indices = self._block(block * block_size)
            for start in range(begin, len(tasks), self._batch_size):
                chosen = slice(start, start + self._batch_size)
                lengths = self._bucket(self._example_lengths(tasks[chosen], indices[chosen]))
                first_draw = self._stop(block * block_size + start + self._batch_size)
                rows = np.arange(len(tasks[chosen]))
                yield self._plan(first_draw, tasks[chosen], indices[chosen], rows, lengths)

    def _block(self, first: int) -> tuple[np.ndarray, np.ndarray]:
        """A block's examples in the order of its batches."""
        size = self._batch_size
        tasks, indices = self._order.examples(first, self._stop(first + size * _BATCHES_A_BLOCK))
        by_length = np.argsort(self._length_ranks(tasks, indices), kind="stable")
        if self._shuffle:
            num_full = len(tasks) // size
            batches = shuffled(num_full, seed=self._seed, name="length buckets", epoch=first)
            full = by_length[: num_full * size].reshape(num_full, size)[batches].reshape(-1)
            by_length = np.concatenate([full, by_length[num_full * size :]])
        return tasks[by_length], indices[by_length]

    def _length_ranks(self, tasks: np.ndarray, indices: np.ndarray) -> np.ndarray:
        """float64 [draws] in [0, 1): the share of its task's draws that are shorter."""
        lengths = self._example_lengths(tasks, indices)
        filled = np.max([lengths[name] / self._lengths[name] for name in lengths], axis=0)
        ranks = np.zeros(len(tasks))
        for task in np.unique(tasks):
            mine = np.flatnonzero(tasks == task)
            ranks[mine[np.argsort(filled[mine], kind="stable")]] = np.arange(len(mine)) / len(mine)
        return ranks

    def _bucket(self, example_lengths: Mapping[str, np.ndarray]) -> dict[str, int]:
        """The row lengths of the smallest bucket that holds every example."""
        for bucket in range(1, self._num_buckets + 1):
            lengths = {
                name: _rounded_up(longest * bucket / self._num_buckets, at_most=longest)
                for name, longest in self._lengths.items()
            }
            if all(example_lengths[name].max(initial=0) <= length for name, length in lengths.items()):
                return lengths
        raise AssertionError("the last bucket holds every example")


def _rounded_up(length: float, *, at_most: int) -> int:
    return min(math.ceil(length / _ROUNDED_TO) * _ROUNDED_TO, at_most)


class FirstFit(_Planner):
    """Packed batches: the draws that follow go, one after another, into the first row that has room for them.

    The draw that fits into no row opens the next batch, with the draw that it goes together with, if the order has such:
    nothing is dropped or put off, so a batch is a run of draws. Where
    a batch begins depends on those before it; `first_draw` walks there from the nearest batch whose place is known.
    """

    def __init__(self, *args, **settings) -> None:
        super().__init__(*args, **settings)
        columns = self._columns()
        widths = [self._lengths[name].bit_length() + 1 for name in columns]  # a guard bit on top of each
        shifts = [sum(widths[:place]) for place in range(len(columns))]
        self._guards = sum(1 << (shift + width - 1) for shift, width in zip(shifts, widths, strict=True))
        self._empty_row = self._guards + sum(
            self._lengths[name] << shift for name, shift in zip(columns, shifts, strict=True)
        )
        number = np.int64 if sum(widths) < 63 else object
        self._needs = [
            sum(of_task[name].astype(number) << shift for name, shift in zip(columns, shifts, strict=True))
            for of_task in self._task_lengths
        ]
        self._known = {0: 0}  # step -> first draw

    def _columns(self) -> list[str]:
        """The features that decide whether an example fits: one of those that are always of the same length."""
        columns: list[str] = []
        for name in self._lengths:
            if not any(self._alike(name, other) for other in columns):
                columns.append(name)
        return columns

    def _alike(self, name: str, other: str) -> bool:
        return self._lengths[name] == self._lengths[other] and all(
            np.array_equal(of_task[name], of_task[other]) for of_task in self._task_lengths
        )

    def first_draw(self, step: int) -> int:
        """Where batch `step` begins."""
        near = max(known for known in self._known if known <= step)
        between = self._packed(self._known[near], num_batches=step - near)
        self._known[step] = max((draw for *_, draw in between), default=self._known[near])
        return self._known[step]

    def plans(self, first_draw: int) -> Iterator[BatchPlan]:
        """The batches from `first_draw` on."""
        for tasks, indices, rows, next_draw in self._packed(first_draw):
            yield self._plan(next_draw, tasks, indices, rows)

    def _packed(self, draw: int, *, num_batches: int | None = None) -> Iterator[tuple]:
        """(tasks, indices, rows, next draw) of each batch."""
        start = stop = draw  # of the draws that were looked up
        tasks, indices, needs = np.zeros(0, np.int64), np.zeros(0, np.int64), []
        while num_batches != 0 and (self._num_draws is None or draw < self._num_draws):
            rows = self._rows(needs[draw - start :])
            if len(rows) == stop - draw and stop != self._num_draws:
                # All of them fit, so more might. Many at once: looking up one costs much the same as looking up many.
                start, stop = draw, self._stop(draw + 4 * max(len(rows), self._batch_size, 1024))
                tasks, indices = self._order.examples(start, stop)
                needs = self._needs_of(tasks, indices)
                continue
            rows = rows[: len(rows) - len(rows) % self._order.together]
            taken = slice(draw - start, draw - start + len(rows))
            draw += len(rows)
            yield tasks[taken], indices[taken], np.array(rows, np.int64), draw
            num_batches = None if num_batches is None else num_batches - 1

    def _needs_of(self, tasks: np.ndarray, indices: np.ndarray) -> list[int]:
        needs = np.zeros(len(tasks), self._needs[0].dtype)
        for task in np.unique(tasks):
            mine = tasks == task
            needs[mine] = self._needs[task][indices[mine]]
        return needs.tolist()

    def _rows(self, needs: Sequence[int]) -> list[int]:
        """The row of each example, up to the first that fits into none.

        Room and need are numbers with a field a feature; the bit above a field is 1, and turns 0 where a feature needs more
        than there is.
        """
        guards, empty, batch_size = self._guards, self._empty_row, self._batch_size
        room: list[int] = []  # of rows that are open
        open_rows: list[int] = []
        rows: list[int] = []
        num_rows = 0
        for need in needs:
            for place, free in enumerate(room):
                left = free - need
                if left & guards == guards:
                    room[place] = left
                    rows.append(open_rows[place])
                    break
            else:
                if num_rows == batch_size:
                    break
                room.append(empty - need)
                open_rows.append(num_rows)
                rows.append(num_rows)
                num_rows += 1
                if len(room) > _OPEN_ROWS:
                    del room[0], open_rows[0]
        return rows


def fill_rows(
    plan: BatchPlan, tasks: Sequence[TokenizedTask], rows: range, *, pack: bool
) -> dict[str, Int32[np.ndarray, "rows length"]]:
    """Some rows of a batch under SeqIO's names: tokens, and, packed, each token's example (from 1) and place in it."""
    here = (plan.rows >= rows.start) & (plan.rows < rows.stop)
    by_row = np.flatnonzero(here)[np.argsort(plan.rows[here], kind="stable")]
    task_of, index_of, row_of = plan.tasks[by_row], plan.indices[by_row], plan.rows[by_row] - rows.start
    first_of_row = np.searchsorted(row_of, row_of)  # [examples]: the first example of the same row
    segment_of = np.arange(len(row_of)) - first_of_row + 1
    batch: dict[str, np.ndarray] = {}
    for name, length in plan.lengths.items():
        sizes, tokens = _gathered(tasks, name, task_of, index_of)
        before = np.cumsum(sizes) - sizes  # tokens of the examples before, over all rows
        places = np.arange(sizes.sum()) - np.repeat(before, sizes)  # of each token in its example
        row_begins = row_of * length + before - before[first_of_row]
        to = np.repeat(row_begins, sizes) + places
        shape = (len(rows), length)
        batch[name] = _scattered(tokens, to, shape)
        if pack:
            batch[f"{name}_segment_ids"] = _scattered(np.repeat(segment_of, sizes), to, shape)
            batch[f"{name}_positions"] = _scattered(places, to, shape)
    return batch


def _gathered(
    tasks: Sequence[TokenizedTask], name: str, task_of: np.ndarray, index_of: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(int64 [examples], int32 [tokens]): how long some examples are, and their tokens one after another."""
    sizes = np.zeros(len(index_of), np.int64)
    for task in np.unique(task_of):
        mine = task_of == task
        sizes[mine] = tasks[task].sizes(name, index_of[mine])
    tokens = np.zeros(sizes.sum(), np.int32)
    token_tasks = np.repeat(task_of, sizes)
    for task in np.unique(task_of):
        tokens[token_tasks == task] = tasks[task].gathered(name, index_of[task_of == task])
    return sizes, tokens


def _scattered(values: np.ndarray, to: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    rows = np.zeros(shape[0] * shape[1], np.int32)
    rows[to] = values
    return rows.reshape(shape)
