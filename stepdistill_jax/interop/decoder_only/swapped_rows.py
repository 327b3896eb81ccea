"""A tensor with two of its tokens swapped, as our ids are (`base.vocabularies.tokenizer_files`); read as lazily as before."""

import dataclasses

import numpy as np

from stepdistill_jax.interop.lazy_array import LazyArray


def with_swapped_tokens(array: LazyArray, start: int, *, axis: int) -> LazyArray:
    """The array with entry 0 and entry `start` of an axis exchanged; as it is where both are one.

    Args:
      axis: 0 where tokens are rows, 1 where they are columns.

    Raises:
      ValueError: if there is no such token.
    """
    if not start:
        return array
    if not 0 < start < array.shape[axis]:
        raise ValueError(
            f"Token {start} starts a text, but the embedding has {array.shape[axis]} tokens only."
        )
    return dataclasses.replace(
        array,
        read_rows=_along(array.read_rows, start) if axis == 0 else _across(array.read_rows, start, axis=1),
        read_columns=None
        if array.read_columns is None
        else _across(array.read_columns, start, axis=0)
        if axis == 0
        else _along(array.read_columns, start, axis=1),
        source=None,
    )


def _along(read, start: int, axis: int = 0):
    """Of what reads from one entry of the axis to another: those two come from each other's place."""

    def read_swapped(first: int, stop: int) -> np.ndarray:
        numbers = np.array(read(first, stop))
        for place, other in ((0, start), (start, 0)):
            if first <= place < stop:
                numbers[_at(place - first, axis)] = read(other, other + 1)[_at(0, axis)]
        return numbers

    return read_swapped


def _across(read, start: int, *, axis: int):
    """Of what reads all entries of the axis."""

    def read_swapped(first: int, stop: int) -> np.ndarray:
        numbers = np.array(read(first, stop))
        zeroth, other = _at(0, axis), _at(start, axis)
        numbers[zeroth], numbers[other] = numbers[other].copy(), numbers[zeroth].copy()
        return numbers

    return read_swapped


def _at(index: int, axis: int) -> tuple[slice | int, ...]:
    return (slice(None),) * axis + (index,)
