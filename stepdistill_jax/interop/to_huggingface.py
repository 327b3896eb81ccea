"""A checkpoint, ours or T5X's, to a folder that transformers loads: weights, config.json and the tokenizer's files."""

import dataclasses
import functools
import os
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from stepdistill_jax.base.whole_files import new_folder
from stepdistill_jax.interop.checkpoint_arrays import open_arrays
from stepdistill_jax.interop.decoder_only import huggingface_config as decoder_config
from stepdistill_jax.interop.decoder_only import tokenizer_files as decoder_tokenizer
from stepdistill_jax.interop.decoder_only.decoder_checkpoint import decoder_checkpoint
from stepdistill_jax.interop.decoder_only.sizes import DecoderSizes, is_decoder_only
from stepdistill_jax.interop.json_files import read_json, write_json
from stepdistill_jax.interop.kept_files import copy_kept
from stepdistill_jax.interop.lazy_array import FLOAT_DTYPES
from stepdistill_jax.interop.safetensors_files import SHARD_BYTES, Tensor, write_weights
from stepdistill_jax.interop.t5 import huggingface_config as t5_config
from stepdistill_jax.interop.t5 import tokenizer_files as t5_tokenizer
from stepdistill_jax.interop.t5.sizes import T5Sizes
from stepdistill_jax.interop.t5.t5_checkpoint import t5_checkpoint


@dataclasses.dataclass(frozen=True)
class ExportedModel:
    """What a checkpoint became.

    Attributes:
      weights: the safetensors files.
      has_tokenizer: whether AutoTokenizer finds one.
    """

    sizes: T5Sizes | DecoderSizes
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
    verify: bool = True,
) -> ExportedModel:
    """Writes DST, whole or not at all; in memory is one stored chunk at a time, and what it is decoded from.

    A checkpoint that keeps a tensor as one chunk, as Orbax does unless told otherwise, so takes about twice that tensor:
    its compressed bytes and its numbers. Ours have chunks of 64 MiB at most.

    A T5's sizes are read off its parameters; activations, dropout and vocabulary come from the run's student.json or config.gin, where there
    is one beside the checkpoint. A decoder-only model's heads and rotary positions, and which token its id 0 is, come from
    config.gin, model.gin or student.json beside it, else from `like`.

    Args:
      checkpoint: a checkpoint's folder, in any layout that training restores.
      destination: a folder that is not there yet.
      dtype: of the weights, 'float32', 'bfloat16' or 'float16'; by default as they were saved.
      like: a Hugging Face folder of the same sizes, whose other settings and tokenizer are taken; by default the one
        that `stepdistill convert` left beside this checkpoint, or beside the one that the run began with.
      vocabulary: a SentencePiece model, or a decoder-only model's tokenizer.json; by default that of `like`, else the run's.
      shard_bytes: largest file.
      verify: whether the checkpoint's files are compared with its checksums first.

    Raises:
      FileNotFoundError: if there is no such checkpoint.
      ValueError: lists every file that is not as it was saved, or every parameter that is not the network's, or is of
        another shape.
    """
    opened = open_arrays(checkpoint, verify=verify)
    like = like or opened.run.huggingface
    if like and not (like / "config.json").is_file():
        raise FileNotFoundError(f"{like} has no config.json; --like wants a Hugging Face folder.")
    config_of_like = read_json(like / "config.json") if like else None
    if is_decoder_only(opened.arrays):
        model = decoder_checkpoint(opened, like=like, vocabulary=vocabulary)
        config_of = functools.partial(
            decoder_config.config_of_sizes, ids=decoder_tokenizer.ids_of(model.tokens)
        )
        finish = functools.partial(
            decoder_tokenizer.write_tokenizer, tokenizer=model.tokenizer, tokens=model.tokens
        )
    else:
        model = t5_checkpoint(opened)
        config_of = functools.partial(t5_config.config_of_sizes, dropout_rate=opened.run.dropout_rate)
        finish = functools.partial(
            t5_tokenizer.write_tokenizer,
            sizes=model.sizes,
            vocabulary=vocabulary,
            otherwise=opened.run.vocabulary,
        )
    tensors = [
        Tensor(
            parameter.huggingface,
            array,
            turned=parameter.turned,
            dtype=FLOAT_DTYPES[dtype] if dtype else array.dtype,
        )
        for parameter, array in model.parameters
    ]
    config = config_of(model.sizes, dtype=tensors[0].dtype.name, like=config_of_like)
    total = sum(array.num_bytes for _, array in model.parameters)
    with new_folder(destination) as folder:
        write_json(folder / "config.json", config)
        if like:
            copy_kept(like, folder)
        has_tokenizer = finish(folder)
        with tqdm(total=total, unit="B", unit_scale=True, desc="convert", disable=None) as progress:
            files = write_weights(folder, tensors, shard_bytes=shard_bytes, written=progress.update)
    return ExportedModel(
        model.sizes, [destination / name for name in files], tensors[0].dtype.name, has_tokenizer
    )
