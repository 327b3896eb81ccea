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
    """The examples of a mixture in the order of their draws."""

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
