"""Tensors of a file written by torch.save, read without torch and without running what the file says.

Since torch 1.6 such a file is a zip: `<name>/data.pkl`, a pickle that describes the tensors, and `<name>/data/<key>`,
their numbers. A pickle may name any function to be called, so an unpickler is used that knows the few that make up
tensors, stands in for each with a plain record of our own, and refuses every other.
"""

import collections
import dataclasses
import math
import os
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from stepdistill_jax.interop.lazy_array import FLOAT_DTYPES, LazyArray

_STORAGE_DTYPES = {
    "FloatStorage": FLOAT_DTYPES["float32"],
    "BFloat16Storage": FLOAT_DTYPES["bfloat16"],
    "HalfStorage": FLOAT_DTYPES["float16"],
    "DoubleStorage": np.dtype(np.float64),
    "LongStorage": np.dtype(np.int64),
    "IntStorage": np.dtype(np.int32),
    "ShortStorage": np.dtype(np.int16),
    "CharStorage": np.dtype(np.int8),
    "ByteStorage": np.dtype(np.uint8),
    "BoolStorage": np.dtype(np.bool_),
}


@dataclasses.dataclass(frozen=True)
class _Storage:
    """Numbers of a file: `key` names the zip's entry."""

    key: str
    dtype: np.dtype
    count: int


@dataclasses.dataclass(frozen=True)
class _Tensor:
    """A view of a storage; offset and strides in numbers, not bytes."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def _rebuild_tensor(storage: Any, offset: int, shape: Any, strides: Any, *ignored: Any) -> _Tensor:
    del ignored  # requires_grad, hooks, metadata
    sizes = (offset, *shape, *strides)
    if not isinstance(storage, _Storage) or len(shape) != len(strides):
        raise pickle.UnpicklingError("a tensor without a storage")
    if not all(isinstance(number, int) and number >= 0 for number in sizes):
        raise pickle.UnpicklingError(f"a tensor of sizes {sizes}")
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    if math.prod(shape) and last >= storage.count:
        raise pickle.UnpicklingError(f"a tensor that ends at number {last} of a storage of {storage.count}")
    return _Tensor(storage, offset, tuple(shape), tuple(strides))


def _rebuild_parameter(data: Any, *ignored: Any) -> Any:
    del ignored
    return data


class _TensorUnpickler(pickle.Unpickler):
    """Makes dicts, plain values and `_Tensor`s; whatever else the pickle names is an error."""

    _KNOWN: ClassVar = {
        ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
        ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
        ("collections", "OrderedDict"): collections.OrderedDict,
    }

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in _STORAGE_DTYPES:
            return _STORAGE_DTYPES[name]
        if (module, name) not in self._KNOWN:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is no part of a tensor")
        return self._KNOWN[module, name]

    def persistent_load(self, pid: Any) -> _Storage:
        kind, dtype, key, _, count = pid
        if (
            kind != "storage"
            or not isinstance(dtype, np.dtype)
            or not isinstance(key, str)
            or not isinstance(count, int)
        ):
            raise pickle.UnpicklingError(f"it refers to {kind!r}, which is no storage")
        return _Storage(key, dtype, count)


def open_torch_archive(path: Path) -> dict[str, LazyArray]:
    """The tensors of a state dict that torch.save wrote (version 1.6 and later), by name; none is read yet.

    Raises:
      ValueError: for a file that is cut short, is of torch's older format, or would do more than hold tensors.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = {info.filename: info for info in archive.infolist()}
            (pickled,) = [name for name in entries if name.endswith("/data.pkl")]
            folder = pickled.removesuffix("data.pkl")
            byteorder = archive.read(f"{folder}byteorder") if f"{folder}byteorder" in entries else b"little"
            with archive.open(pickled) as file:
                tensors = _TensorUnpickler(file).load()
    except zipfile.BadZipFile as error:
        raise ValueError(
            f"{path}: no whole zip archive ({error}). If torch older than 1.6 wrote it, load and save it with a newer one, "
            "or better as safetensors; else fetch it again."
        ) from error
    except (
        pickle.UnpicklingError,
        ValueError,
        TypeError,
        EOFError,
        IndexError,
        AttributeError,
        KeyError,
    ) as error:
        raise ValueError(
            f"{path}: its data.pkl is not read, as it does not describe tensors alone ({error}); convert it to safetensors "
            "where you trust it."
        ) from error
    if not isinstance(tensors, dict) or byteorder != b"little":
        raise ValueError(
            f"{path} holds no state dict in little-endian order; save model.state_dict() instead."
        )
    if isinstance(tensors.get("state_dict"), dict):
        tensors = tensors["state_dict"]
    return {
        name: _lazy(path, entries, folder, tensor)
        for name, tensor in tensors.items()
        if isinstance(tensor, _Tensor)
    }


def _lazy(path: Path, entries: dict[str, zipfile.ZipInfo], folder: str, tensor: _Tensor) -> LazyArray:
    storage, name = tensor.storage, f"{folder}data/{tensor.storage.key}"
    entry = entries.get(name)
    if (
        entry is None
        or entry.compress_type != zipfile.ZIP_STORED
        or entry.file_size < storage.count * storage.dtype.itemsize
    ):
        raise ValueError(f"{path}: {name} is missing, compressed or too short; fetch the file again.")

    def read_rows(start: int, stop: int) -> np.ndarray:
        shape = (stop - start, *tensor.shape[1:]) if tensor.shape else ()
        first = tensor.offset + start * (tensor.strides[0] if tensor.shape else 0)
        # The numbers from the first to the last of these rows; of a contiguous tensor, the rows themselves.
        span = 1 + sum((size - 1) * stride for size, stride in zip(shape, tensor.strides, strict=True))
        if not math.prod(shape):
            return np.empty(shape, storage.dtype)
        with path.open("rb") as file:
            file.seek(_data_offset(file, entry) + first * storage.dtype.itemsize)
            numbers = np.fromfile(file, storage.dtype, span)
        if len(numbers) != span:
            raise ValueError(f"{path}: {name} is cut short; fetch the file again.")
        strides = [stride * storage.dtype.itemsize for stride in tensor.strides]
        return np.lib.stride_tricks.as_strided(numbers, shape, strides)

    return LazyArray(
        shape=tensor.shape,
        dtype=storage.dtype,
        read_rows=read_rows,
        source=(os.fspath(path), name, tensor.offset, tensor.shape, tensor.strides),
    )


def _data_offset(file: Any, entry: zipfile.ZipInfo) -> int:
    """Where an entry's bytes begin: behind its local header of 30 bytes, its name and its extra field (zip, 4.3.7)."""
    file.seek(entry.header_offset)
    header = file.read(30)
    name_length, extra_length = struct.unpack("<HH", header[26:30])
    return entry.header_offset + 30 + name_length + extra_length
