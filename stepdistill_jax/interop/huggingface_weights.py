"""The tensors of a Hugging Face folder by name, whole or sharded, safetensors or torch; read one at a time."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from stepdistill_jax.interop.json_files import read_json
from stepdistill_jax.interop.lazy_array import FLOAT_DTYPES, LazyArray
from stepdistill_jax.interop.torch_archive import open_torch_archive

SAFETENSORS, TORCH = "model.safetensors", "pytorch_model.bin"
_DTYPES = {
    "F32": FLOAT_DTYPES["float32"],
    "BF16": FLOAT_DTYPES["bfloat16"],
    "F16": FLOAT_DTYPES["float16"],
} | {
    name: np.dtype(dtype)
    for name, dtype in {
        "F64": "f8",
        "I64": "i8",
        "I32": "i4",
        "I16": "i2",
        "I8": "i1",
        "U8": "u1",
        "BOOL": "?",
    }.items()
}


def open_weights(folder: Path) -> dict[str, LazyArray]:
    """Every tensor of a folder: model.safetensors, else pytorch_model.bin, or the shards that their index.json names.

    Raises:
      FileNotFoundError: if there are no weights, or the index names shards that are not there (all are listed).
      ValueError: for a file that is cut short or damaged, or a tensor that the index names and no shard has.
    """
    for name, open_file in ((SAFETENSORS, _open_safetensors), (TORCH, open_torch_archive)):
        index = folder / f"{name}.index.json"
        if (folder / name).is_file():
            return open_file(folder / name)
        if index.is_file():
            return _open_shards(index, open_file)
    raise FileNotFoundError(
        f"{folder} has no weights: no {SAFETENSORS}, {TORCH} or their .index.json{_others(folder)}. "
        "TensorFlow's and Flax's files are not read."
    )


def _others(folder: Path) -> str:
    found = sorted(path.name for path in folder.iterdir())[:8]
    return f"; it has {', '.join(found)}" if found else "; it is empty"


def _open_shards(index: Path, open_file) -> dict[str, LazyArray]:
    shard_of = read_json(index).get("weight_map")
    if not isinstance(shard_of, dict) or not all(isinstance(shard, str) for shard in shard_of.values()):
        raise ValueError(f"{index} has no weight_map of tensor names to files; fetch it again.")
    shards = sorted(set(shard_of.values()))
    if outside := [shard for shard in shards if Path(shard).name != shard]:
        raise ValueError(f"{index} names files outside its folder: {_listed(outside)}.")
    if missing := [shard for shard in shards if not (index.parent / shard).is_file()]:
        raise FileNotFoundError(
            f"{index.parent} lacks {len(missing)} of {len(shards)} shards that {index.name} names: {_listed(missing)}."
        )
    tensors: dict[str, LazyArray] = {}
    for shard in shards:
        tensors |= open_file(index.parent / shard)
    if lost := sorted(shard_of.keys() - tensors.keys()):
        raise ValueError(
            f"{index} names tensors that its shards do not have: {_listed(lost)}; fetch them again."
        )
    return tensors


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)


def _open_safetensors(path: Path) -> dict[str, LazyArray]:
    try:
        with safe_open(path, framework="np") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 (not iterable)
            facts = {name: (tuple(part.get_shape()), part.get_dtype()) for name, part in slices.items()}
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is damaged or cut short ({error}); fetch it again.") from error
    if unknown := sorted({dtype for _, dtype in facts.values()} - _DTYPES.keys()):
        raise ValueError(f"{path} has tensors of dtype {_listed(unknown)}; quantised weights are not read.")
    return {name: _lazy(path, name, shape, _DTYPES[dtype]) for name, (shape, dtype) in facts.items()}


def _lazy(path: Path, name: str, shape: tuple[int, ...], dtype: np.dtype) -> LazyArray:
    def read_rows(start: int, stop: int) -> np.ndarray:
        # The file is mapped while it is open, and pages that were read stay until it is closed: open it each time.
        with safe_open(path, framework="np") as file:
            return file.get_slice(name)[start:stop] if shape else file.get_tensor(name)

    return LazyArray(shape=shape, dtype=dtype, read_rows=read_rows, source=(str(path), name))
