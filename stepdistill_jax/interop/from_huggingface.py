"""A Hugging Face folder to a checkpoint that training begins from, its gin file and its tokenizer beside it.

DST/checkpoint_<step>/   parameters, in T5X's layout
DST/model.gin            the network and the vocabulary
DST/huggingface/         config.json and the tokenizer's files, as they were
"""

import dataclasses
import functools
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from stepdistill_jax.base import checkpoint_folders
from stepdistill_jax.base.whole_files import new_folder
from stepdistill_jax.engine.checkpoint.checkpoint_writer import ArrayInParts, write_parameters
from stepdistill_jax.interop import parameter_names
from stepdistill_jax.interop.huggingface_config import read_json, scales_logits, sizes_of_config
from stepdistill_jax.interop.huggingface_weights import open_weights
from stepdistill_jax.interop.lazy_array import FLOAT_DTYPES, LazyArray, cast, same_numbers
from stepdistill_jax.interop.model_gin import PUBLIC_VOCABULARIES, gin_of_sizes
from stepdistill_jax.interop.parameter_names import Parameter
from stepdistill_jax.interop.run_facts import BESIDE, NETWORK_GIN
from stepdistill_jax.interop.sizes import T5Sizes
from stepdistill_jax.interop.tokenizer_files import SENTENCEPIECE, copy_kept

DEFAULT_STEP = (
    1_000_000  # T5's pretraining took so many steps in every family; FLAN-T5's took a few more behind them
)


@dataclasses.dataclass(frozen=True)
class ConvertedModel:
    """What a Hugging Face folder became.

    Attributes:
      checkpoint: for INITIAL_CHECKPOINT_PATH.
      gin_file: the network's.
      vocabulary: what the gin file says it is: a SentencePiece model, 'bytes', or None for T5's.
    """

    sizes: T5Sizes
    checkpoint: Path
    gin_file: Path
    vocabulary: str | None
    num_parameters: int
    step: int

    def command(self) -> str:
        """How to train a student from it."""
        return (
            f"python t5x/train.py --gin_file=gin/dsbs_t5_{_size_name(self.sizes)}.gin --gin_file={self.gin_file} "
            f"--gin.INITIAL_CHECKPOINT_PATH=\"'{self.checkpoint}'\" --gin.STEP_OFFSET={self.step} "
            "--gin.MODEL_DIR=\"'runs/my_run'\""
        )


def _size_name(sizes: T5Sizes) -> str:
    """The run of gin/dsbs_t5_*.gin that was made for students of about this width."""
    widths = {512: "small", 768: "base", 1024: "large", 2048: "xl", 4096: "xxl"}
    return widths[min(widths, key=lambda width: abs(width - sizes.emb_dim))]


def convert_from_huggingface(
    source: Path, destination: Path, *, step: int = DEFAULT_STEP, dtype: str | None = None
) -> ConvertedModel:
    """Writes DST, whole or not at all; in memory is a part of one tensor at a time.

    Args:
      source: a folder with config.json and weights, safetensors or torch, sharded or not.
      destination: a folder that is not there yet.
      step: to give the checkpoint.
      dtype: of the parameters, 'float32', 'bfloat16' or 'float16'; by default each tensor's own.

    Raises:
      FileNotFoundError: if config.json or weights are missing.
      ValueError: lists every name and shape that is not the network's, or says which file is damaged.
    """
    if not (source / "config.json").is_file():
        raise FileNotFoundError(f"{source} is no Hugging Face model: it has no config.json.")
    config = read_json(source / "config.json")
    tensors = open_weights(source)
    sizes, matched = _match(config, tensors, source)
    total = sum(array.num_bytes for _, array in matched)
    with new_folder(destination) as folder:
        (folder / BESIDE).mkdir()
        shutil.copyfile(source / "config.json", folder / BESIDE / "config.json")
        kept = copy_kept(source, folder / BESIDE)
        has_file = SENTENCEPIECE in kept and sizes.family != "byt5"
        vocabulary = str(destination / BESIDE / SENTENCEPIECE) if has_file else None
        converted = ConvertedModel(
            sizes=sizes,
            checkpoint=destination / checkpoint_folders.name_of(step),
            gin_file=destination / NETWORK_GIN,
            vocabulary=vocabulary or PUBLIC_VOCABULARIES.get(sizes.family),
            num_parameters=sum(int(np.prod(parameter.shape)) for parameter, _ in matched),
            step=step,
        )
        title = f"{sizes.family}, {converted.num_parameters / 1e6:,.0f} M parameters"
        text = gin_of_sizes(
            sizes,
            title=title,
            source=source.name,
            use=converted.command(),
            vocabulary=converted.vocabulary,
        )
        (folder / NETWORK_GIN).write_text(text, encoding="utf-8")
        with tqdm(total=total, unit="B", unit_scale=True, desc="convert", disable=None) as progress:
            write_parameters(
                folder / checkpoint_folders.name_of(step), _arrays(matched, dtype, progress), step=step
            )
    return converted


def _arrays(
    matched: Sequence[tuple[Parameter, LazyArray]], dtype: str | None, progress: tqdm
) -> Iterator[tuple[str, ArrayInParts]]:
    for parameter, array in matched:
        read = functools.partial(_read_part, parameter, array, dtype)
        yield (
            parameter.name,
            ArrayInParts(parameter.shape, FLOAT_DTYPES[dtype] if dtype else array.dtype, read),
        )
        progress.update(array.num_bytes)


def _read_part(
    parameter: Parameter, array: LazyArray, dtype: str | None, part: tuple[slice, ...]
) -> np.ndarray:
    """A part of a parameter, read by the rows that Hugging Face's file has."""
    rows, *columns = reversed(part) if parameter.turned else part
    numbers = array.read_rows(rows.start, rows.stop)[:, *columns]
    return cast(numbers.T if parameter.turned else numbers, dtype, name=parameter.huggingface)


def _match(
    config: Mapping[str, Any], tensors: dict[str, LazyArray], source: Path
) -> tuple[T5Sizes, list[tuple[Parameter, LazyArray]]]:
    """The sizes, and a tensor for every parameter."""
    tensors, problems = _settle_embeddings(config, tensors)
    where = source / "config.json"
    sizes = sizes_of_config(config, has_head=parameter_names.HEAD in tensors, where=str(where))
    wanted = parameter_names.parameters(sizes)
    for parameter in wanted:
        name, array = parameter.huggingface, tensors.get(parameter.huggingface)
        if array is None:
            problems.append(f"{name} is missing")
        elif array.shape != parameter.huggingface_shape:
            problems.append(
                f"{name} has shape {array.shape}, config.json wants {parameter.huggingface_shape}"
            )
        elif array.dtype not in FLOAT_DTYPES.values():
            problems.append(f"{name} is of {array.dtype}, not {', '.join(FLOAT_DTYPES)}")
    known = {parameter.huggingface for parameter in wanted}
    problems += [
        f"{name} of shape {array.shape} is not in the network"
        for name, array in sorted(tensors.items())
        if name not in known
    ]
    if problems:
        raise ValueError(
            f"{source} does not hold the T5 that its config.json describes, {len(problems)} tensors differ: "
            f"{'; '.join(problems)}."
        )
    return sizes, [(parameter, tensors[parameter.huggingface]) for parameter in wanted]


def _settle_embeddings(
    config: Mapping[str, Any], tensors: Mapping[str, LazyArray]
) -> tuple[dict[str, LazyArray], list[str]]:
    """The tensors with one embedding, and an output layer only if the network has one; and what is wrong with them.

    Torch files repeat the embedding under its aliases, safetensors may keep it under any one of them; tied weights
    may or may not have `lm_head.weight`. Whether two are one, the file tells, or else the numbers.
    """
    tensors = {name: array for name, array in tensors.items() if name not in parameter_names.UNUSED}
    names = (parameter_names.SHARED, *parameter_names.EMBEDDING_ALIASES)
    candidates = names if not scales_logits(config) else (*names, parameter_names.HEAD)
    embedding = next((tensors[name] for name in candidates if name in tensors), None)
    if embedding is None:
        return tensors, []
    problems = [
        f"{name} differs from {parameter_names.SHARED}"
        for name in names
        if name in tensors and not same_numbers(embedding, tensors.pop(name))
    ]
    tensors[parameter_names.SHARED] = embedding
    if scales_logits(config):
        if parameter_names.HEAD in tensors and same_numbers(embedding, tensors[parameter_names.HEAD]):
            del tensors[parameter_names.HEAD]
    else:
        # transformers 5 ties whatever is equal, and still does not scale: an output layer equal to the embedding.
        tensors.setdefault(parameter_names.HEAD, embedding)
    return tensors, problems
