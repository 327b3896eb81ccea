"""Weights as safetensors files for transformers, written tensor by tensor.

The format (huggingface/safetensors, README): 8 bytes with the header's length, the header as JSON with each tensor's
dtype, shape and place, then the tensors' bytes one behind the other. safetensors' own writer wants all tensors at once.
"""

import dataclasses
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from stepdistill_jax.interop.lazy_array import FLOAT_DTYPES, LazyArray, cast

_WRITE_BYTES = 4 << 20
SHARD_BYTES = 5 * 10**9  # transformers' own limit, until version 5 raised it
_DTYPE_NAMES = {
    FLOAT_DTYPES["float32"]: "F32",
    FLOAT_DTYPES["bfloat16"]: "BF16",
    FLOAT_DTYPES["float16"]: "F16",
}


@dataclasses.dataclass(frozen=True)
class Tensor:
    """Attributes:
    name: as transformers calls it.
    array: where the numbers come from.
    turned: whether the file gets the transpose of `array`.
    dtype: of the file.
    """

    name: str
    array: LazyArray
    turned: bool
    dtype: np.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape[::-1] if self.turned else self.array.shape

    @property
    def num_bytes(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize


def write_weights(
    folder: Path,
    tensors: Sequence[Tensor],
    *,
    shard_bytes: int = SHARD_BYTES,
    written: Callable[[int], object] = lambda num_bytes: None,
) -> list[str]:
    """Writes model.safetensors, or shards of at most `shard_bytes` (or one tensor) each and their index.

    Args:
      written: called after each tensor, with its bytes.

    Returns:
      the names of the files with weights.
    """
    shards = _shards(tensors, shard_bytes)
    if len(shards) == 1:
        _write_file(folder / "model.safetensors", shards[0], written)
        return ["model.safetensors"]
    names = [f"model-{number:05d}-of-{len(shards):05d}.safetensors" for number in range(1, len(shards) + 1)]
    for name, shard in zip(names, shards, strict=True):
        _write_file(folder / name, shard, written)
    index = {
        "metadata": {"total_size": sum(tensor.num_bytes for tensor in tensors)},
        "weight_map": {
            tensor.name: name for name, shard in zip(names, shards, strict=True) for tensor in shard
        },
    }
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    return names


def _shards(tensors: Sequence[Tensor], shard_bytes: int) -> list[list[Tensor]]:
    shards: list[list[Tensor]] = [[]]
    used = 0
    for tensor in tensors:
        if shards[-1] and used + tensor.num_bytes > shard_bytes:
            shards.append([])
            used = 0
        shards[-1].append(tensor)
        used += tensor.num_bytes
    return shards


def _write_file(path: Path, tensors: Sequence[Tensor], written: Callable[[int], object]) -> None:
    header: dict[str, object] = {
        "__metadata__": {"format": "pt"}
    }  # without it, transformers 4 refuses the file
    end = 0
    for tensor in tensors:
        start, end = end, end + tensor.num_bytes
        header[tensor.name] = {
            "dtype": _DTYPE_NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [start, end],
        }
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)
    with path.open("wb") as file:
        file.write(len(encoded).to_bytes(8, "little"))
        file.write(encoded)
        for tensor in tensors:
            _write_tensor(file, tensor)
            written(tensor.array.num_bytes)
        file.flush()
        os.fsync(file.fileno())


def _write_tensor(file: BinaryIO, tensor: Tensor) -> None:
    for rows in _rows(tensor):
        rows = np.ascontiguousarray(cast(rows, tensor.dtype.name, name=tensor.name))
        file.write(rows.view(np.uint8))  # numpy has no buffer of bfloat16


def _rows(tensor: Tensor) -> Iterator[np.ndarray]:
    for _, block in tensor.array.blocks(axis=1 if tensor.turned else 0):
        rows = block.T if tensor.turned else block
        if not rows.ndim:
            yield rows
            continue
        # A block may be a chunk of many MB; what is turned and cast of it is held beside it.
        step = max(1, _WRITE_BYTES // max(1, rows.nbytes // len(rows)))
        for start in range(0, len(rows), step):
            yield rows[start : start + step]
