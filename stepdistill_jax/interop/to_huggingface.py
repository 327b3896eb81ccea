"""A checkpoint, ours or T5X's, to a folder that transformers loads: weights, config.json and the tokenizer's files."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorstore as ts
from flax import traverse_util
from tqdm import tqdm

from stepdistill_jax.base.whole_files import new_folder
from stepdistill_jax.engine.checkpoint.saved_checkpoint import (
    SavedCheckpoint,
    damaged,
    numpy_dtype,
    open_checkpoint,
)
from stepdistill_jax.engine.checkpoint.stacked_checkpoints import unstack_layers
from stepdistill_jax.interop import parameter_names
from stepdistill_jax.interop.huggingface_config import config_of_sizes, read_json
from stepdistill_jax.interop.lazy_array import FLOAT_DTYPES, LazyArray
from stepdistill_jax.interop.run_facts import RunFacts, read_run_facts
from stepdistill_jax.interop.safetensors_files import SHARD_BYTES, Tensor, write_weights
from stepdistill_jax.interop.sizes import T5Sizes, sizes_of_shapes
from stepdistill_jax.interop.tokenizer_files import copy_kept, write_json, write_tokenizer


@dataclasses.dataclass(frozen=True)
class ExportedModel:
    """What a checkpoint became.

    Attributes:
      weights: the safetensors files.
      has_tokenizer: whether AutoTokenizer finds one.
    """

    sizes: T5Sizes
    weights: Sequence[Path]
    dtype: str
    has_tokenizer: bool


def convert_to_huggingface(
    checkpoint: str | os.PathLike[str],
    destination: Path,
    *,
    dtype: str | None = None,
    like: Path | None = None,
    vocabulary: Path | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> ExportedModel:
    """Writes DST, whole or not at all; in memory is one stored chunk at a time, and what it is decoded from.

    A checkpoint that keeps a tensor as one chunk, as Orbax does unless told otherwise, so takes about twice that tensor:
    its compressed bytes and its numbers. Ours have chunks of 64 MiB at most.

    Sizes are read off the parameters; activations, dropout and vocabulary come from the run's config.gin, where there
    is one beside the checkpoint.

    Args:
      checkpoint: a checkpoint's folder, in any layout that training restores.
      destination: a folder that is not there yet.
      dtype: of the weights, 'float32', 'bfloat16' or 'float16'; by default as they were saved.
      like: a Hugging Face folder of the same sizes, whose other settings and tokenizer are taken; by default the one
        that `stepdistill convert` left beside this checkpoint, or beside the one that the run began with.
      vocabulary: a SentencePiece model; by default that of `like`, else the run's.
      shard_bytes: largest file.

    Raises:
      FileNotFoundError: if there is no such checkpoint.
      ValueError: lists every parameter that is not a T5's, or is of another shape.
    """
    saved = open_checkpoint(checkpoint)
    arrays = _parameters(saved)
    run = read_run_facts(Path(checkpoint)) if "://" not in os.fspath(checkpoint) else RunFacts()
    sizes = sizes_of_shapes(
        {name: array.shape for name, array in arrays.items()}, mlp_activations=run.mlp_activations
    )
    matched = _match(sizes, arrays, saved.path)
    like = like or run.huggingface
    if like and not (like / "config.json").is_file():
        raise FileNotFoundError(f"{like} has no config.json; --like wants a Hugging Face folder.")
    tensors = [
        Tensor(
            parameter.huggingface,
            array,
            turned=parameter.turned,
            dtype=FLOAT_DTYPES[dtype] if dtype else array.dtype,
        )
        for parameter, array in matched
    ]
    config = config_of_sizes(
        sizes,
        dtype=tensors[0].dtype.name,
        dropout_rate=run.dropout_rate,
        like=read_json(like / "config.json") if like else None,
    )
    total = sum(array.num_bytes for _, array in matched)
    with new_folder(destination) as folder:
        write_json(folder / "config.json", config)
        if like:
            copy_kept(like, folder)
        has_tokenizer = write_tokenizer(folder, sizes, vocabulary, otherwise=run.vocabulary)
        with tqdm(total=total, unit="B", unit_scale=True, desc="convert", disable=None) as progress:
            files = write_weights(folder, tensors, shard_bytes=shard_bytes, written=progress.update)
    return ExportedModel(sizes, [destination / name for name in files], tensors[0].dtype.name, has_tokenizer)


def _parameters(saved: SavedCheckpoint) -> dict[str, LazyArray]:
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


def _match(
    sizes: T5Sizes, arrays: Mapping[str, LazyArray], path: str
) -> list[tuple[parameter_names.Parameter, LazyArray]]:
    wanted = parameter_names.parameters(sizes)
    problems = []
    for parameter in wanted:
        array = arrays.get(parameter.name)
        if array is None:
            problems.append(f"{parameter.name} is missing")
        elif array.shape != parameter.shape:
            problems.append(
                f"{parameter.name} has shape {array.shape}, the other sizes make it {parameter.shape}"
            )
        elif array.dtype not in FLOAT_DTYPES.values():
            problems.append(f"{parameter.name} is of {array.dtype}, not {', '.join(FLOAT_DTYPES)}")
    known = {parameter.name for parameter in wanted}
    problems += [
        f"{name} of shape {array.shape} is no part of it"
        for name, array in sorted(arrays.items())
        if name not in known
    ]
    if problems:
        raise ValueError(f"{path} is no T5, {len(problems)} parameters differ: {'; '.join(problems)}.")
    return [(parameter, arrays[parameter.name]) for parameter in wanted]
