"""A checkpoint on a disk or in a bucket as named arrays, which are read when and as far as they are wanted.

Three layouts, told apart by their files:

    checkpoint_<step>/state/_METADATA    Orbax: ours, and T5X's since 2023
    checkpoint_<step>/checkpoint         T5X's older one: msgpack, arrays beside it (that of the public T5 checkpoints)
    …/_METADATA                          Orbax without an item's folder

Names are T5X's: 'target/…' for parameters, 'state/step', 'state/param_states/…' for the optimizer.
"""

import dataclasses
import functools
import json
import os
import re
from collections.abc import Iterable, Mapping
from typing import Any

import ml_dtypes
import numpy as np
import tensorstore as ts
from flax import serialization, traverse_util

from stepdistill_jax.base import checkpoint_folders

PARAMETERS = "target/"
STEP = "state/step"
PARAM_STATES = "state/param_states/"

# Chunks are as large as 64 MiB; a device's slice may need a part of one, and its neighbour the rest.
_CACHE_BYTES = 512 * 2**20
_BUCKET = re.compile(r"(gs|s3)://([^/]+)/?(.*)")
_EMPTY_TYPES = ("None", "Dict", "List", "Tuple", "NamedTuple", "str", "string")
_SPEC_KEYS = {"driver", "kvstore", "metadata"}


@dataclasses.dataclass(frozen=True)
class SavedCheckpoint:
    """What a checkpoint holds. Opening one reads names only.

    Attributes:
      path: its folder, local or gs://.
      layout: 'orbax' or 't5x'.
      specs: name -> TensorStore spec, or the value of an array that T5X keeps in its msgpack file.
    """

    path: str
    layout: str
    specs: Mapping[str, Any] = dataclasses.field(repr=False)

    @property
    def names(self) -> frozenset[str]:
        return frozenset(self.specs)

    def arrays(self, prefix: str = "", *, cache_bytes: int = _CACHE_BYTES) -> dict[str, ts.TensorStore]:
        """The arrays whose names begin so. Each knows its shape and dtype; `.read().result()` reads it, all or sliced.

        Args:
          cache_bytes: of decoded chunks to keep, for who reads arrays in parts; 0 for who reads each once.

        Raises:
          ValueError: names every array that cannot be opened.
        """
        futures = {
            name: None
            if isinstance(spec, np.ndarray)
            else ts.open(spec, read=True, context=_context(cache_bytes))
            for name, spec in sorted(self.specs.items())
            if name.startswith(prefix)
        }
        opened, problems = {}, []
        for name, future in futures.items():
            try:
                opened[name] = ts.array(self.specs[name]) if future is None else future.result()
            except (ValueError, OSError) as error:
                problems.append(f"{name} ({error})")
        if problems:
            raise damaged(self.path, problems)
        return opened

    def parameters(self, *, cache_bytes: int = _CACHE_BYTES) -> dict[str, ts.TensorStore]:
        """`arrays` of the parameters, by their paths in the model ('encoder/layers_0/…')."""
        stores = self.arrays(PARAMETERS, cache_bytes=cache_bytes)
        return {name.removeprefix(PARAMETERS): array for name, array in stores.items()}

    @functools.cached_property
    def step(self) -> int:
        """The step that it was saved after; 0 if it does not say."""
        return int(self.arrays(STEP)[STEP].read().result()) if STEP in self.specs else 0


def damaged(path: str, problems: Iterable[str]) -> ValueError:
    """The error for a checkpoint that cannot be read, though it was once written whole."""
    listed = list(problems)
    return ValueError(
        f"{path} is damaged: {len(listed)} arrays cannot be read: {'; '.join(listed[:8])}{'; …' if listed[8:] else ''}. "
        "Copy it again, or move the folder away to go on from the checkpoint before it."
    )


def changed(path: str, problems: Iterable[str]) -> ValueError:
    """The error for files of a checkpoint that are not as they were saved."""
    listed = list(problems)
    files = "1 file is" if len(listed) == 1 else f"{len(listed)} files are"
    return ValueError(
        f"{path} is damaged: {files} not as saved: {'; '.join(listed[:8])}{'; …' if listed[8:] else ''}. Copy it again, or "
        "move the folder away to go on from the checkpoint before it."
    )


def folder_of(path: str | os.PathLike[str]) -> str:
    """A checkpoint's folder by its name, or by that of T5X's msgpack file in it."""
    return os.fspath(path).rstrip("/").removesuffix("/checkpoint")


def is_bucket(path: str) -> bool:
    """Whether a path is one of a gs:// or s3:// bucket."""
    return _BUCKET.fullmatch(path) is not None


def open_checkpoint(path: str | os.PathLike[str]) -> SavedCheckpoint:
    """The checkpoint in a folder, of whichever layout.

    Raises:
      FileNotFoundError: if there is none; says what the folder has instead.
      ValueError: if its index of arrays cannot be read.
    """
    folder = folder_of(path)
    files = open_folder(folder)
    for item in ("state/", "", "default/"):
        metadata = files.read(f"{item}_METADATA").result()
        if metadata.state == "value":
            return SavedCheckpoint(folder, "orbax", _orbax_specs(folder, item, metadata.value))
    for item in ("", "state/"):
        index = files.read(f"{item}checkpoint").result()
        if index.state == "value":
            return SavedCheckpoint(folder, "t5x", _t5x_specs(folder, item, index.value))
    raise FileNotFoundError(f"{folder} is not a checkpoint: {_what_is_there(folder)}")


def checkpoint_steps(folder: str | os.PathLike[str]) -> list[int]:
    """The steps of the whole checkpoints in a folder, in ascending order; those half written have other names."""
    name = os.fspath(folder)
    if not is_bucket(name):
        return checkpoint_folders.steps_in(name)
    keys = open_folder(name).list().result()
    return checkpoint_folders.steps_of({key.decode().split("/")[0] for key in keys if b"/" in key})


def open_folder(path: str) -> ts.KvStore:
    """A local folder, or one of a gs:// or s3:// bucket, as files by name."""
    return ts.KvStore.open(kvstore(path), context=_context(_CACHE_BYTES)).result()


@functools.cache
def _context(cache_bytes: int) -> ts.Context:
    return ts.Context(
        {"cache_pool": {"total_bytes_limit": cache_bytes}, "file_io_concurrency": {"limit": 128}}
    )


def kvstore(path: str) -> dict[str, Any]:
    """TensorStore's name for a folder."""
    if match := _BUCKET.fullmatch(path):
        driver = {"gs": "gcs", "s3": "s3"}[match[1]]
        return {
            "driver": driver,
            "bucket": match[2],
            "path": match[3].rstrip("/") + "/" if match[3] else "",
        }
    return {"driver": "file", "path": os.path.abspath(path) + "/"}


def _orbax_specs(folder: str, item: str, metadata: bytes) -> dict[str, Any]:
    try:
        tree = json.loads(metadata)
        leaves = {
            tuple(str(key["key"]) for key in leaf["key_metadata"]): leaf["value_metadata"]["value_type"]
            for leaf in tree["tree_metadata"].values()
        }
    except (ValueError, KeyError, TypeError) as error:
        raise damaged(folder, [f"{item}_METADATA ({error!r})"]) from error
    files = kvstore(f"{folder}/{item}" if item else folder)
    if tree.get("use_ocdbt", True):
        files = {"driver": "ocdbt", "base": files, "path": ""}
    # Orbax says whether a chunk of zeros was written too: only then is one that is not there a damage.
    whole = bool(tree.get("store_array_data_equal_to_fill_value"))
    return {
        "/".join(keys): {
            "driver": "zarr3" if tree.get("use_zarr3") else "zarr",
            "kvstore": {**files, "path": f"{files['path']}{'.'.join(keys)}/"},
            "fill_missing_data_reads": not whole,
        }
        for keys, value_type in leaves.items()
        if value_type not in _EMPTY_TYPES
    }


def _t5x_specs(folder: str, item: str, index: bytes) -> dict[str, Any]:
    if index.startswith(b"model_checkpoint_path"):
        raise ValueError(
            f"{folder} is a TensorFlow checkpoint of Mesh TensorFlow's T5, which is not read; the same weights are "
            "published for T5X (gs://t5-data/pretrained_models/t5x) and by Hugging Face (`stepdistill convert`)."
        )
    try:
        contents = serialization.msgpack_restore(index)
        tree = contents["optimizer"] if "version" in contents else contents
        leaves = traverse_util.flatten_dict(tree, sep="/", is_leaf=lambda _, value: set(value) >= _SPEC_KEYS)
    # msgpack raises its own errors, ValueErrors all, flax KeyErrors where the tree is another.
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise damaged(folder, [f"{item}checkpoint ({error!r})"]) from error
    try:
        # MultiOptimizer leaves None where no optimizer looks after a parameter.
        return {
            name: _t5x_spec(folder, item, leaf) if isinstance(leaf, dict) else np.asarray(leaf)
            for name, leaf in leaves.items()
            if leaf is not None
        }
    except (KeyError, TypeError, AttributeError) as error:
        raise damaged(folder, [f"{item}checkpoint ({error!r})"]) from error


def _t5x_spec(folder: str, item: str, leaf: Mapping[str, Any]) -> dict[str, Any]:
    """The spec of an array beside the msgpack file. What T5X wrote of drivers and buckets says where it once was."""
    relative = leaf["kvstore"].get("path") or leaf["path"]
    if leaf.get("dtype") == "uint16" or leaf["metadata"].get("dtype") == "<u2":
        raise ValueError(
            f"{folder}: {relative} holds bfloat16 as uint16, as T5X wrote before June 2021; save it anew with T5X."
        )
    # Never a hole: without a fill value TensorStore writes every chunk.
    return {
        "driver": leaf["driver"],
        "kvstore": kvstore(f"{folder}/{item}{relative.rstrip('/')}"),
        "fill_missing_data_reads": False,
    }


def _what_is_there(folder: str) -> str:
    if not is_bucket(folder) and not os.path.isdir(folder):
        if os.path.exists(folder + ".index"):
            return "it is a TensorFlow checkpoint, which is not read; use T5X's or Hugging Face's (`stepdistill convert`)."
        return f"there is no such folder; {os.path.dirname(folder)} has {_named(checkpoint_steps(os.path.dirname(folder)))}."
    if steps := checkpoint_steps(folder):
        return f"it holds checkpoints, {_named(steps)}; name one of them, or in gin RestoreCheckpointConfig.mode='latest' for the newest."
    if not is_bucket(folder) and os.path.exists(f"{folder}/config.json"):
        return "it looks like a Hugging Face model; `stepdistill convert` makes a checkpoint of it."
    return "it has neither state/_METADATA (Orbax) nor a file named checkpoint (T5X); name a checkpoint_<step> folder."


def _named(steps: Iterable[int]) -> str:
    return ", ".join(map(checkpoint_folders.name_of, steps)) or "no checkpoint_<step>"


def numpy_dtype(array: ts.TensorStore) -> np.dtype:
    """An array's dtype as numpy knows it; bfloat16 is ml_dtypes'."""
    return np.dtype(ml_dtypes.bfloat16) if array.dtype == ts.bfloat16 else array.dtype.numpy_dtype
