"""Writes T5X's older layout, array by array: a msgpack file `checkpoint`, and a zarr folder for each array.

T5X restores it, so do we. A caller that makes one array after another never holds more than one of them, or of
`ArrayInParts` more than some chunks.
"""

import contextlib
import dataclasses
import itertools
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore as ts
from flax import serialization, traverse_util

from stepdistill_jax.engine.checkpoint import checksums, saved_checkpoint

# T5X's version 3: bfloat16 is written as such.
_VERSION = 3
_CHUNK_BYTES = 64 * 2**20
# zarr's usual one, which T5X reads too. Its own, gzip, takes 10 times as long to write (134 MB: 4.1 s against 0.4 s on
# two cores) and packs float32 no better.
_COMPRESSOR = {"id": "blosc", "cname": "lz4", "clevel": 5, "shuffle": 1}


@dataclasses.dataclass(frozen=True)
class ArrayInParts:
    """An array that is made while it is written: `read` gives a part by its slices, one an axis, with start and stop."""

    shape: tuple[int, ...]
    dtype: np.dtype
    read: Callable[[tuple[slice, ...]], np.ndarray]


def write_checkpoint(
    path: str | os.PathLike[str], arrays: Iterable[tuple[str, Any]], *, step: int = 0
) -> None:
    """Writes a checkpoint whole or not at all: under another name first, its index and its checksums last.

    One that is written into a bucket has no checksums: all of it would have to be read back.

    Args:
      path: the folder to make, local or gs://; 'checkpoint_<step>' for T5X to find it.
      arrays: (name, array) pairs, each written and let go before the next is asked for. Names are the checkpoint's
        own ('target/encoder/…', 'state/param_states/…'); `ArrayInParts`, or anything that numpy can make an array of.
      step: written as 'state/step' unless `arrays` has it.

    Raises:
      FileExistsError: if the folder is there already.
      OSError: if it cannot be written; the folder is then not there.
    """
    final = os.fspath(path).rstrip("/")
    local = "://" not in final
    folder = f"{final}.tmp-{os.getpid()}" if local else final
    if local and os.path.exists(final):
        raise FileExistsError(f"{final} exists; name another folder, or move it away.")
    try:
        index: dict[str, Any] = {saved_checkpoint.STEP: np.asarray(step, np.int32)}
        for name, array in arrays:
            index[name] = _write_array(folder, name, _in_parts(array), final=final)
        tree = {"version": _VERSION, "optimizer": traverse_util.unflatten_dict(index, sep="/")}
        with _unwritable(final):
            files = saved_checkpoint.open_folder(folder)
            files.write("checkpoint", serialization.msgpack_serialize(tree)).result()
        if local:
            checksums.write(Path(folder), checksums.sums_of(Path(folder)))
            Path(folder).rename(final)
    finally:
        if local:
            shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _unwritable(path: str) -> Iterator[None]:
    """TensorStore has a ValueError for a disk that is full or may not be written to; the caller's own errors pass by."""
    try:
        yield
    except ValueError as error:
        raise OSError(f"{path} cannot be written: {error}") from error


def write_parameters(
    path: str | os.PathLike[str], parameters: Iterable[tuple[str, Any]], *, step: int = 0
) -> None:
    """`write_checkpoint` of parameters alone, by their paths in the model ('encoder/layers_0/…')."""
    write_checkpoint(
        path, ((saved_checkpoint.PARAMETERS + name, array) for name, array in parameters), step=step
    )


def _in_parts(array: Any) -> ArrayInParts:
    if isinstance(array, ArrayInParts):
        return array
    numbers = np.asarray(array)
    return ArrayInParts(numbers.shape, numbers.dtype, numbers.__getitem__)


def _write_array(folder: str, name: str, array: ArrayInParts, *, final: str) -> Any:
    """Writes an array; what the index says of it: its spec, or itself if it is a number, as T5X has it."""
    if np.prod(array.shape, dtype=np.int64) <= 1:
        return np.asarray(array.read(tuple(slice(0, size) for size in array.shape)))
    relative = name.replace("/", ".") + "/"
    chunks = _chunk_shape(array.shape, _CHUNK_BYTES // array.dtype.itemsize)
    metadata = {"chunks": chunks, "compressor": _COMPRESSOR, "shape": list(array.shape)}
    spec = {"driver": "zarr", "dtype": array.dtype.name, "metadata": metadata}
    with _unwritable(final):
        store = ts.open(
            {**spec, "kvstore": saved_checkpoint.kvstore(f"{folder}/{relative}")},
            create=True,
            delete_existing=True,
        ).result()
    # A chunk at a time: each takes three times its size, as numbers, as TensorStore's copy and compressed.
    for part in _parts(array.shape, chunks):
        numbers = array.read(part)
        with _unwritable(final):
            store[part].write(numbers, can_reference_source_data_indefinitely=True).result()
    return {**spec, "kvstore": {"driver": "file", "path": relative}}


def _parts(shape: Sequence[int], chunks: Sequence[int]) -> Iterator[tuple[slice, ...]]:
    starts = [range(0, size, chunk) for size, chunk in zip(shape, chunks, strict=True)]
    for corner in itertools.product(*starts):
        yield tuple(
            slice(start, min(start + chunk, size))
            for start, chunk, size in zip(corner, chunks, shape, strict=True)
        )


def _chunk_shape(shape: tuple[int, ...], num_elements: int) -> list[int]:
    """The largest chunk of at most so many elements that halving the longest side gives."""
    chunk = list(shape)
    while np.prod(chunk, dtype=np.int64) > num_elements:
        longest = int(np.argmax(chunk))
        chunk[longest] = -(-chunk[longest] // 2)
    return chunk
