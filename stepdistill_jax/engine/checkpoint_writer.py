"""Writes T5X's older layout, array by array: a msgpack file `checkpoint`, and a zarr folder for each array.

T5X restores it, so do we. A caller that makes one array after another never holds more than one of them.
"""

import contextlib
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore as ts
from flax import serialization, traverse_util

from stepdistill_jax.engine import saved_checkpoint

# T5X's version 3: bfloat16 is written as such.
_VERSION = 3
_CHUNK_BYTES = 64 * 2**20
# zarr's usual one, which T5X reads too. Its own, gzip, takes 10 times as long to write (134 MB: 4.1 s against 0.4 s on
# two cores) and packs float32 no better.
_COMPRESSOR = {"id": "blosc", "cname": "lz4", "clevel": 5, "shuffle": 1}


def write_checkpoint(
    path: str | os.PathLike[str], arrays: Iterable[tuple[str, Any]], *, step: int = 0
) -> None:
    """Writes a checkpoint whole or not at all: under another name first, its index last.

    Args:
      path: the folder to make, local or gs://; 'checkpoint_<step>' for T5X to find it.
      arrays: (name, array) pairs, each written and let go before the next is asked for. Names are the checkpoint's
        own ('target/encoder/…', 'state/param_states/…'); anything that numpy can make an array of.
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
            with _unwritable(final):
                index[name] = _write_array(folder, name, np.asarray(array))
        tree = {"version": _VERSION, "optimizer": traverse_util.unflatten_dict(index, sep="/")}
        with _unwritable(final):
            files = saved_checkpoint.open_folder(folder)
            files.write("checkpoint", serialization.msgpack_serialize(tree)).result()
        if local:
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


def _write_array(folder: str, name: str, array: np.ndarray) -> Any:
    """Writes an array; what the index says of it: its spec, or itself if it is a number, as T5X has it."""
    if array.size <= 1:
        return array
    relative = name.replace("/", ".") + "/"
    metadata = {
        "chunks": _chunk_shape(array.shape, _CHUNK_BYTES // array.itemsize),
        "compressor": _COMPRESSOR,
        "shape": list(array.shape),
    }
    spec = {"driver": "zarr", "dtype": array.dtype.name, "metadata": metadata}
    store = ts.open(
        {**spec, "kvstore": saved_checkpoint.kvstore(f"{folder}/{relative}")},
        create=True,
        delete_existing=True,
    ).result()
    store.write(array, can_reference_source_data_indefinitely=True).result()
    return {**spec, "kvstore": {"driver": "file", "path": relative}}


def _chunk_shape(shape: tuple[int, ...], num_elements: int) -> list[int]:
    """The largest chunk of at most so many elements that halving the longest side gives."""
    chunk = list(shape)
    while np.prod(chunk, dtype=np.int64) > num_elements:
        longest = int(np.argmax(chunk))
        chunk[longest] = -(-chunk[longest] // 2)
    return chunk
