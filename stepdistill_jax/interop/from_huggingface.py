"""A Hugging Face folder to a checkpoint that training begins from, its gin file and its tokenizer beside it.

DST/checkpoint_<step>/   parameters, in T5X's layout
DST/model.gin            the network and the vocabulary
DST/huggingface/         config.json and the tokenizer's files, as they were
"""

import dataclasses
import functools
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from stepdistill_jax.base import checkpoint_folders
from stepdistill_jax.base.whole_files import new_folder
from stepdistill_jax.engine.checkpoint.checkpoint_writer import ArrayInParts, write_parameters
from stepdistill_jax.interop.decoder_only import huggingface_config as decoder_config
from stepdistill_jax.interop.decoder_only import network_gin as decoder_gin
from stepdistill_jax.interop.decoder_only.decoder_folder import match_decoder_only
from stepdistill_jax.interop.decoder_only.sizes import DecoderSizes
from stepdistill_jax.interop.decoder_only.text_tokens import TextTokens, find_text_tokens
from stepdistill_jax.interop.huggingface_weights import open_weights
from stepdistill_jax.interop.json_files import read_json
from stepdistill_jax.interop.kept_files import ADAPTER, SENTENCEPIECE, TOKENIZER_JSON, copy_kept
from stepdistill_jax.interop.lazy_array import FLOAT_DTYPES, LazyArray, cast
from stepdistill_jax.interop.parameter import Parameter
from stepdistill_jax.interop.run_facts import BESIDE, NETWORK_GIN
from stepdistill_jax.interop.t5 import huggingface_config as t5_config
from stepdistill_jax.interop.t5 import network_gin as t5_gin
from stepdistill_jax.interop.t5.sizes import T5Sizes
from stepdistill_jax.interop.t5.t5_folder import match_t5
from stepdistill_jax.interop.t5.tokenizer_files import num_extra_ids

DEFAULT_STEP = (
    1_000_000  # T5's pretraining took so many steps in every family; FLAN-T5's took a few more behind them
)
DEFAULT_DECODER_STEP = 0  # no schedule of ours goes on from a decoder-only model's


@dataclasses.dataclass(frozen=True)
class ConvertedModel:
    """What a Hugging Face folder became.

    Attributes:
      checkpoint: for INITIAL_CHECKPOINT_PATH.
      gin_file: the network's.
      vocabulary: what the gin file says it is: a SentencePiece model, a tokenizer.json, 'bytes', or None for T5's, and of
        decoder-only models the run's.
      tokens: that start and end a text of a tokenizer.json.
    """

    sizes: T5Sizes | DecoderSizes
    checkpoint: Path
    gin_file: Path
    vocabulary: str | None
    num_parameters: int
    step: int
    tokens: TextTokens | None = None

    def command(self) -> str:
        """How to train a student from it."""
        return (
            f"python t5x/train.py --gin_file=gin/dsbs_{_run_name(self.sizes)}.gin --gin_file={self.gin_file} "
            f"--gin.INITIAL_CHECKPOINT_PATH=\"'{self.checkpoint}'\" --gin.STEP_OFFSET={self.step} "
            "--gin.MODEL_DIR=\"'runs/my_run'\""
        )


@dataclasses.dataclass(frozen=True)
class ModelFiles:
    """A model as Hugging Face has it, wherever it comes from.

    Attributes:
      name: of its source.
      source: the same, with its place, for errors.
      config: of config.json.
      tensors: by Hugging Face's names.
      write_beside: writes config.json and the tokenizer's files into a folder.
    """

    name: str
    source: str
    config: Mapping[str, Any]
    tensors: Mapping[str, LazyArray]
    write_beside: Callable[[Path], object]


def _run_name(sizes: T5Sizes | DecoderSizes) -> str:
    """The run of gin/dsbs_*.gin that was made for students of about this width."""
    if isinstance(sizes, DecoderSizes):
        return "smollm2_135m"
    widths = {512: "small", 768: "base", 1024: "large", 2048: "xl", 4096: "xxl"}
    return "t5_" + widths[min(widths, key=lambda width: abs(width - sizes.emb_dim))]


def convert_from_huggingface(
    source: Path,
    destination: Path,
    *,
    step: int | None = None,
    dtype: str | None = None,
    start: str | None = None,
    end: str | None = None,
) -> ConvertedModel:
    """Writes DST, whole or not at all; in memory is a part of one tensor at a time.

    Args:
      source: a folder with config.json and weights, safetensors or torch, sharded or not.
      destination: a folder that is not there yet.
      step: to give the checkpoint; default DEFAULT_STEP, of decoder-only models 0.
      dtype: of the parameters, 'float32', 'bfloat16' or 'float16'; by default each tensor's own.
      start, end: tokens that start and end a text, of a decoder-only model; default see `find_text_tokens`.

    Raises:
      FileNotFoundError: if config.json or weights are missing.
      ValueError: if it is an adapter, lists every name and shape that is not the network's, or says which file is damaged.
    """
    if (source / ADAPTER).is_file():
        raise ValueError(
            f"{source} has an {ADAPTER}: its adapter (LoRA) is no part of the weights that are read. Merge it into its model first "
            "(peft: merge_and_unload, then save_pretrained), and convert that folder."
        )
    if not (source / "config.json").is_file():
        raise FileNotFoundError(f"{source} is no Hugging Face model: it has no config.json.")

    def write_beside(folder: Path) -> None:
        shutil.copyfile(source / "config.json", folder / "config.json")
        copy_kept(source, folder)

    config = read_json(source / "config.json")
    model = ModelFiles(source.name, str(source), config, open_weights(source), write_beside)
    return convert_model(model, destination, step=step, dtype=dtype, start=start, end=end)


def convert_model(
    model: ModelFiles,
    destination: Path,
    *,
    step: int | None = None,
    dtype: str | None = None,
    start: str | None = None,
    end: str | None = None,
) -> ConvertedModel:
    """As `convert_from_huggingface`, of a model's files however they were got.

    Raises:
      ValueError: as there.
    """
    _check_type(model)
    is_t5 = model.config["model_type"] in t5_config.MODEL_TYPES
    if is_t5 and (start or end):
        raise ValueError(f"{model.source} is a T5; --start and --end are for decoder-only models.")
    if step is None:
        step = DEFAULT_STEP if is_t5 else DEFAULT_DECODER_STEP
    with new_folder(destination) as folder:
        beside = folder / BESIDE
        beside.mkdir()
        model.write_beside(beside)
        tokens = None if is_t5 else find_text_tokens(beside, start=start, end=end)
        match = match_t5 if is_t5 else functools.partial(match_decoder_only, tokens=tokens)
        sizes, matched = match(model.config, model.tensors, source=model.source)
        file = _vocabulary_file(beside, sizes)
        vocabulary = str(destination / BESIDE / file) if file else None
        converted = ConvertedModel(
            sizes=sizes,
            checkpoint=destination / checkpoint_folders.name_of(step),
            gin_file=destination / NETWORK_GIN,
            vocabulary=vocabulary or t5_gin.PUBLIC_VOCABULARIES.get(sizes.family),
            num_parameters=sum(int(np.prod(parameter.shape)) for parameter, _ in matched),
            step=step,
            tokens=tokens,
        )
        if is_t5:
            write = functools.partial(t5_gin.gin_of_sizes, extra_ids=_extra_ids(beside, file, sizes))
        else:
            write = functools.partial(decoder_gin.gin_of_sizes, tokens=tokens)
        text = write(
            sizes,
            title=f"{sizes.family}, {converted.num_parameters / 1e6:,.0f} M parameters",
            source=model.name,
            use=converted.command(),
            vocabulary=converted.vocabulary,
        )
        (folder / NETWORK_GIN).write_text(text, encoding="utf-8")
        total = sum(array.num_bytes for _, array in matched)
        with tqdm(total=total, unit="B", unit_scale=True, desc="convert", disable=None) as progress:
            write_parameters(
                folder / checkpoint_folders.name_of(step), _arrays(matched, dtype, progress), step=step
            )
    return converted


def _check_type(model: ModelFiles) -> None:
    found = model.config.get("model_type")
    if found in t5_config.MODEL_TYPES or found in decoder_config.MODEL_TYPES:
        return
    known = ", ".join([*t5_config.MODEL_TYPES, *decoder_config.MODEL_TYPES])
    mend = " Of Gemma 3 that sees pictures, take the text model alone." if found == "gemma3" else ""
    raise ValueError(
        f"{model.source}/config.json: model_type={found!r}; we convert {known} (FLAN-T5 and ByT5 are 't5', SmolLM2 is 'llama').{mend}"
    )


def _vocabulary_file(beside: Path, sizes: T5Sizes | DecoderSizes) -> str | None:
    """The name of the vocabulary that came with the model, if one did that it needs."""
    if isinstance(sizes, DecoderSizes):
        return TOKENIZER_JSON if (beside / TOKENIZER_JSON).is_file() else None
    return SENTENCEPIECE if (beside / SENTENCEPIECE).is_file() and sizes.family != "byt5" else None


def _extra_ids(beside: Path, file: str | None, sizes: T5Sizes) -> int | None:
    """0 where a SentencePiece model has no sentinels behind its pieces; None where it has T5's."""
    return 0 if file and num_extra_ids(beside / file, sizes.vocab_size) == 0 else None


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
