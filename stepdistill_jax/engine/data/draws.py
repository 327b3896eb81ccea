"""Which example a draw of a mixture is: a pure function of the tasks' names and sizes, their rates and the seed.

A *draw* is one example's turn in the mixture. Draw n goes to a task by the rates, and there to a place of one of the
task's passes; a seeded shuffle of its own says which example has that place. So every example of a pass is drawn once.
"""

import functools
import hashlib
import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from jaxtyping import Int64

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
# Shares finer than 2^-30 are rounded, so that products of a draw's place and a share fit into 64 bits.
_FINEST_SHARE = 2**30


def shuffled(num_examples: int, *, seed: int, name: str, epoch: int) -> Int64[np.ndarray, " num_examples"]:
    """A permutation: the order of a task's pass. The same on every machine and NumPy version.

    The key is a hash of seed, name and pass, each told apart from the next; a counter generator with that key gives every
    example a random number, and the numbers' order is the examples'.
    """
    digest = hashlib.blake2b(f"{seed}\n{epoch}\n{name}".encode(), digest_size=8).digest()
    key = np.uint64(int.from_bytes(digest, "little"))
    with np.errstate(over="ignore"):
        numbers = _mix(key + np.arange(1, num_examples + 1, dtype=np.uint64) * _GOLDEN)
    return np.argsort(numbers, kind="stable")


def _mix(bits: np.ndarray) -> np.ndarray:
    """SplitMix64's output function (Steele, Lea and Flood 2014): every input bit moves every output bit."""
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))


# A task that is gone through so many times for one pass over another is said: rarely is it meant.
_UNEVEN = 10


def said_of_uneven(names: Sequence[str], sizes: Sequence[int], rates: Sequence[float]) -> str | None:
    """What to know of a task that is drawn far more often than it has examples, beside another; None if there is none.

    Args:
      sizes: examples of each task.
      rates: of the tasks in the mixture, any positive scale.
    """
    if min(sizes, default=0) <= 0 or min(rates, default=0) <= 0:
        return None  # a task that is never drawn, or nothing to draw: `shares` says what is wrong with that
    passes = [rate / size for size, rate in zip(sizes, rates, strict=True)]
    most, least = (passes.index(choice(passes)) for choice in (max, min))
    times = passes[most] / passes[least]
    if times < _UNEVEN:
        return None
    return (
        f"{names[most]} has {sizes[most]:,} examples beside {sizes[least]:,} of {names[least]}, and fills "
        f"{rates[most] / sum(rates):.0%} of all draws: it is gone through {times:,.0f} times for one pass over the other. Give "
        "it more examples (a teacher more questions), or train on the other alone (--method fine_tuning)."
    )


def shares(rates: Sequence[float]) -> tuple[int, ...]:
    """Whole numbers in the proportion of the rates.

    Raises:
      ValueError: if a rate is negative or none is above 0.
    """
    if min(rates) < 0 or not sum(rates) > 0:
        raise ValueError(
            f"The mixture's rates are {list(rates)}; none may be negative, and one must be above 0."
        )
    exact = [Fraction(rate).limit_denominator(10**6) for rate in rates]
    common = math.lcm(*(rate.denominator for rate in exact))
    whole = [int(rate * common) for rate in exact]
    whole = [share // math.gcd(*whole) for share in whole]
    if sum(whole) > _FINEST_SHARE:
        whole = [round(Fraction(share * _FINEST_SHARE, sum(whole))) for share in whole]
    return tuple(whole)


def task_turns(
    draws: Int64[np.ndarray, " draws"], shares: Sequence[int]
) -> tuple[Int64[np.ndarray, " draws"], Int64[np.ndarray, " draws"]]:
    """Which task each draw goes to, and how many earlier draws went there.

    Tasks take turns in proportion to their shares, as evenly as possible: with shares 1 and 1 every other draw. The first
    task takes its share of all draws, the second its share of what is left, and so on.
    """
    left = sum(shares)
    cycle, place = np.divmod(draws, left)
    tasks = np.full(len(draws), -1)
    turns = np.zeros(len(draws), np.int64)
    for index, share in enumerate(shares):
        if share == 0:
            continue
        taken = place * share // left
        mine = (tasks < 0) & ((place + 1) * share // left > taken)
        tasks[mine] = index
        turns[mine] = (cycle * share + taken)[mine]
        place, left = place - taken, left - share
    return tasks, turns


class DrawOrder:
    """The examples of a mixture in the order of their draws.

    Attributes:
      together: draws n * together up to (n + 1) * together stay in one batch.
    """

    together = 1

    def __init__(
        self,
        names: Sequence[str],
        num_examples: Sequence[int],
        rates: Sequence[float],
        *,
        seed: int,
        shuffle: bool,
    ) -> None:
        """Args:
        names: of the tasks.
        num_examples: of each task.
        rates: of the tasks in the mixture, any positive scale.
        seed: of the order of each pass.
        shuffle: whether a pass is in an order of its own, or in that of the data.
        """
        self._num_examples, self._shares, self._shuffle = tuple(num_examples), shares(rates), shuffle

        # Several iterators, each in its own thread, may be in different passes: lru_cache keeps them apart.
        @functools.lru_cache(maxsize=3 * len(names))
        def order(task: int, epoch: int) -> np.ndarray:
            return shuffled(num_examples[task], seed=seed, name=names[task], epoch=epoch)

        self._order = order

    def examples(
        self, first: int, stop: int
    ) -> tuple[Int64[np.ndarray, " draws"], Int64[np.ndarray, " draws"]]:
        """(task, example of the task) of the draws from `first` up to `stop`."""
        tasks, turns = task_turns(np.arange(first, stop), self._shares)
        indices = np.zeros(len(tasks), np.int64)
        for task in np.unique(tasks):
            mine = tasks == task
            epochs, places = np.divmod(turns[mine], self._num_examples[task])
            if self._shuffle:
                for epoch in np.unique(epochs):
                    here = epochs == epoch
                    places[here] = self._order(int(task), int(epoch))[places[here]]
            indices[mine] = places
        return tasks, indices


class PairedDrawOrder:
    """The examples of tasks that are drawn together: draws 2n and 2n + 1 are the two examples of one id.

    Two such examples share a batch, as label and rationale do in the authors' code. Every example of every task is drawn
    once a pass. Where an id has one example only (a question without rationale), two of that kind go together; of an odd
    number the last one ends a pass, and another begins the next. A pure function of ids, names and seed, as `DrawOrder` is.

        ids of the two tasks        [a, b, c], [a, c]
        draws of two passes         c c  a a  b | b  a a  c c
    """

    together = 2

    def __init__(self, names: Sequence[str], ids: Sequence[np.ndarray], *, seed: int, shuffle: bool) -> None:
        """Args:
        names: of the tasks.
        ids: bytes [num_examples] of each task.
        seed: of the order of each pass.
        shuffle: whether a pass is in an order of its own, or in that of the data.

        Raises:
          ValueError: if an id has more than two examples, or two in one task.
        """
        self._task_of = np.repeat(np.arange(len(ids)), [len(of_task) for of_task in ids])  # [examples]
        self._index_of = np.concatenate([np.arange(len(of_task)) for of_task in ids])  # [examples]
        self._pairs, self._singles = self._grouped(np.concatenate(ids))
        self._name, self._seed, self._shuffle = "+".join(names), seed, shuffle
        self._pass = functools.lru_cache(maxsize=3)(self._make_pass)

    def _grouped(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Places of the examples among all: int64 [pairs, 2] and [singles], both in the order of the data."""
        by_id = np.argsort(ids, kind="stable")
        _, starts, counts = np.unique(ids[by_id], return_index=True, return_counts=True)
        pairs = np.stack([by_id[starts[counts == 2]], by_id[starts[counts == 2] + 1]], axis=1)
        wrong = [
            *by_id[starts[counts > 2]],
            *pairs[self._task_of[pairs[:, 0]] == self._task_of[pairs[:, 1]], 0],
        ]
        if wrong:
            raise ValueError(
                f"paired: the id {ids[wrong[0]].decode('utf-8')!r} has more than one example in a task, or is in more than "
                "two tasks; paired tasks need ids of their own for each example. Leave DatasetConfig.paired False."
            )
        return pairs[np.argsort(pairs[:, 0])], np.sort(by_id[starts[counts == 1]])

    def _make_pass(self, epoch: int) -> Int64[np.ndarray, " examples"]:
        """The places of the examples in the order of a pass."""
        alone = self._in_order(self._singles, "alone", epoch)
        rest, alone = alone[: len(alone) % 2], alone[len(alone) % 2 :]
        groups = self._in_order(np.concatenate([self._pairs, alone.reshape(-1, 2)]), "together", epoch)
        return np.concatenate([rest, groups.reshape(-1)] if epoch % 2 else [groups.reshape(-1), rest])

    def _in_order(self, items: np.ndarray, kind: str, epoch: int) -> np.ndarray:
        if not self._shuffle:
            return items
        return items[shuffled(len(items), seed=self._seed, name=f"{kind}\n{self._name}", epoch=epoch)]

    def examples(
        self, first: int, stop: int
    ) -> tuple[Int64[np.ndarray, " draws"], Int64[np.ndarray, " draws"]]:
        """(task, example of the task) of the draws from `first` up to `stop`."""
        epochs, places = np.divmod(np.arange(first, stop), len(self._task_of))
        for epoch in np.unique(epochs):
            here = epochs == epoch
            places[here] = self._pass(int(epoch))[places[here]]
        return self._task_of[places], self._index_of[places]
