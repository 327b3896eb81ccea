"""A checkpoint's parameters, ours or T5X's, each where it lies until it is read."""

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tensorstore as ts
from flax import traverse_util

from stepdistill_jax.base.messages import say_once
from stepdistill_jax.engine.checkpoint import checksums
from stepdistill_jax.engine.checkpoint.saved_checkpoint import (
    SavedCheckpoint,
    damaged,
    numpy_dtype,
    open_checkpoint,
)
from stepdistill_jax.engine.checkpoint.stacked_checkpoints import unstack_layers
from stepdistill_jax.interop.lazy_array import LazyArray
from stepdistill_jax.interop.run_facts import RunFacts, read_run_facts


@dataclasses.dataclass(frozen=True)
class Opened:
    """Attributes:
    path: of the checkpoint.
    step: of training.
    arrays: parameters by T5X's path, none of which is read yet.
    run: what the files beside it say.
    """

    path: str
    step: int
    arrays: Mapping[str, LazyArray]
    run: RunFacts


def open_arrays(checkpoint: str | os.PathLike[str], *, verify: bool = True) -> Opened:
    """Opens a checkpoint's folder, in any layout that training restores.

    Args:
      verify: whether its files are compared with its checksums first.

    Raises:
      FileNotFoundError: if there is no such checkpoint.
      ValueError: lists every file that is not as it was saved.
    """
    saved = open_checkpoint(checkpoint)
    say_once(f"{checkpoint}: {checksums.check_and_tell(checkpoint, verify=verify)}")
    run = read_run_facts(Path(checkpoint)) if "://" not in os.fspath(checkpoint) else RunFacts()
    return Opened(saved.path, saved.step, _arrays_of(saved), run)


def _arrays_of(saved: SavedCheckpoint) -> Mapping[str, LazyArray]:
    """A checkpoint's parameters under a path a layer, also where T5X keeps a stack's layers in one array."""
    parameters = saved.parameters(cache_bytes=0)  # each is read whole, once
    tree = traverse_util.unflatten_dict(parameters, sep="/")
    stores = traverse_util.flatten_dict(unstack_layers(tree), sep="/")
    return {name: _lazy(saved, name, store) for name, store in stores.items()}


def _lazy(saved: SavedCheckpoint, name: str, store: ts.TensorStore) -> LazyArray:
    def read(part: tuple[slice, ...]) -> np.ndarray:
        try:
            return np.asarray(store[part].read().result())
        except (ValueError, OSError) as error:
            raise damaged(saved.path, [f"{name} ({error})"]) from error

    shape = tuple(store.shape)
    chunk = store.chunk_layout.read_chunk.shape or shape
    return LazyArray(
        shape=shape,
        dtype=numpy_dtype(store),
        read_rows=lambda start, stop: read((slice(start, stop),) if shape else ()),
        read_columns=lambda start, stop: read((slice(None), slice(start, stop))),
        chunk=tuple(min(size or whole, whole) for size, whole in zip(chunk, shape, strict=True)),
    )
