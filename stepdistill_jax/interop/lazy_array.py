"""An array that lies in a file until it is asked for: conversion holds one at a time."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping

import ml_dtypes
import numpy as np

BLOCK_BYTES = 16 << 20  # of a tensor that is read, turned or compared piece by piece

FLOAT_DTYPES: Mapping[str, np.dtype] = {
    "float32": np.dtype(np.float32),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "float16": np.dtype(np.float16),
}


@dataclasses.dataclass(frozen=True)
class LazyArray:
    """Attributes:
    shape: of the whole.
    dtype: float32, bfloat16 or float16; others are refused where names and shapes are compared.
    read_rows: (start, stop) -> those rows of the first axis, of a scalar its only number; a new array each time.
    source: names the tensor within its file, so that two names of one tensor can be told; None if unknown.
    read_columns: (start, stop) -> those columns of a matrix, where the file gives them as easily as rows.
    chunk: shape of what the file can only give whole, by axis; None where it gives any rows by themselves.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    read_rows: Callable[[int, int], np.ndarray]
    source: object = None
    read_columns: Callable[[int, int], np.ndarray] | None = None
    chunk: tuple[int, ...] | None = None

    @property
    def num_bytes(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize

    def read(self) -> np.ndarray:
        """The whole array."""
        return self.read_rows(0, self.shape[0] if self.shape else 1)

    def blocks(self, axis: int = 0) -> Iterator[tuple[int, np.ndarray]]:
        """(first row, rows) of the whole, or columns for axis 1; each block of about BLOCK_BYTES, in whole chunks."""
        read = self.read_columns if axis else self.read_rows
        length = self.shape[axis] if self.shape else 1
        step = max(1, BLOCK_BYTES // max(1, self.num_bytes // max(length, 1)))
        if self.chunk:
            step = -(-step // self.chunk[axis]) * self.chunk[axis]
        for start in range(0, length, step):
            yield start, read(start, min(start + step, length))


def same_numbers(first: LazyArray, second: LazyArray) -> bool:
    """Whether two tensors are one, or equal bit for bit; neither is held whole."""
    if first.source is not None and first.source == second.source:
        return True
    if first.shape != second.shape or first.dtype != second.dtype:
        return False
    return all(
        rows.tobytes() == others.tobytes()
        for (_, rows), (_, others) in zip(first.blocks(), second.blocks(), strict=True)
    )


def check_finite(arrays: Mapping[str, LazyArray], *, source: object) -> None:
    """Raises a ValueError that names the tensors with NaN or infinite numbers; a block is held at a time."""
    wrong = [
        name
        for name, array in arrays.items()
        if not all(np.isfinite(numbers.astype(np.float32)).all() for _, numbers in array.blocks())
    ]
    if wrong:
        raise ValueError(
            f"{source}: {', '.join(wrong[:3])}{', …' if wrong[3:] else ''} ({len(wrong)} of {len(arrays)} tensors) have numbers "
            "that are none (NaN or infinite), as a training that diverged leaves them; name an earlier --step, or train again."
        )


def cast(numbers: np.ndarray, dtype: str | None, *, name: str) -> np.ndarray:
    """The numbers in another dtype, or as they are.

    Raises:
      ValueError: names a tensor with numbers too large for it: float16 ends at 65,504.
    """
    if dtype is None or numbers.dtype == FLOAT_DTYPES[dtype]:
        return numbers
    with np.errstate(over="ignore"):
        narrowed = numbers.astype(FLOAT_DTYPES[dtype])
    if dtype == "float16" and np.isinf(narrowed).any() and np.isfinite(numbers).all():
        raise ValueError(f"{name} has numbers beyond float16's range; use bfloat16 or float32.")
    return narrowed
