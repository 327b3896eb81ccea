"""`stepdistill convert`: which way a conversion goes, and what is said when it is done."""

from collections.abc import Sequence
from pathlib import Path

from stepdistill_jax.base import checkpoint_folders
from stepdistill_jax.engine.checkpoint.checkpoint_writer import write_checkpoint
from stepdistill_jax.engine.checkpoint.saved_checkpoint import PARAMETERS, numpy_dtype, open_checkpoint
from stepdistill_jax.interop.from_huggingface import DEFAULT_STEP, convert_from_huggingface
from stepdistill_jax.interop.hub import HUB, download
from stepdistill_jax.interop.lazy_array import cast
from stepdistill_jax.interop.run_facts import BESIDE
from stepdistill_jax.interop.to_huggingface import convert_to_huggingface
from stepdistill_jax.interop.tokenizer_files import SENTENCEPIECE


def convert(
    source: str,
    destination: Path,
    *,
    to: str | None = None,
    step: int | None = None,
    dtype: str | None = None,
    like: Path | None = None,
    vocabulary: Path | None = None,
) -> list[str]:
    """Converts, and returns what to tell the user: what was written, and how to go on.

    Args:
      source: a Hugging Face folder, its name on the hub ('hf://google/t5-v1_1-small'), or a checkpoint, local or gs://.
      destination: a folder that is not there yet.
      to: 'checkpoint' or 'hf'; by default what `source` is not. A checkpoint to 'checkpoint' gives T5X's older layout.
      step: of a checkpoint made of a Hugging Face folder.
      dtype: 'float32', 'bfloat16' or 'float16'; default as the weights are.
      like, vocabulary: see `convert_to_huggingface`.

    Raises:
      FileNotFoundError, FileExistsError, ValueError: one line that says what is wrong.
    """
    is_hub = source.startswith(HUB)
    if "://" not in source and not Path(source).is_dir():
        raise FileNotFoundError(
            f"There is no folder {source}; name a Hugging Face folder, a checkpoint_<step>, or hf://OWNER/NAME."
        )
    is_huggingface = is_hub or (Path(source) / "config.json").is_file()
    to = to or ("checkpoint" if is_huggingface else "hf")
    if to == "hf" and is_huggingface:
        raise ValueError(f"{source} is a Hugging Face model already; --to hf takes a checkpoint.")
    _refuse_unused(to=to, is_huggingface=is_huggingface, step=step, like=like, vocabulary=vocabulary)
    if to == "hf":
        return _export(source, destination, dtype=dtype, like=like, vocabulary=vocabulary)
    if not is_huggingface:
        return _copy(source, destination, dtype)
    folder = download(source) if is_hub else Path(source)
    return _import(folder, destination, step=DEFAULT_STEP if step is None else step, dtype=dtype)


def _refuse_unused(
    *, to: str, is_huggingface: bool, step: int | None, like: Path | None, vocabulary: Path | None
) -> None:
    if step is not None and not is_huggingface:
        raise ValueError(f"step={step}: a checkpoint keeps its own step; leave --step out.")
    if step is not None and step < 0:
        raise ValueError(f"step={step}; it must be 0 or more.")
    if to == "checkpoint" and (like or vocabulary):
        raise ValueError("--like and --vocabulary are for exports to Hugging Face; leave them out.")


def _import(folder: Path, destination: Path, *, step: int, dtype: str | None) -> list[str]:
    model = convert_from_huggingface(folder, destination, step=step, dtype=dtype)
    lines = [
        f"{model.checkpoint}: {model.sizes.family}, {model.num_parameters / 1e6:,.1f} M parameters",
        f"{model.gin_file}: its network and vocabulary",
    ]
    if model.sizes.family != "byt5" and not (destination / BESIDE / SENTENCEPIECE).is_file():
        public = model.vocabulary or "T5's, which `stepdistill prepare t5_vocabulary` gets"
        lines.append(f"{folder} has no {SENTENCEPIECE}: the vocabulary is {public}")
    return [*lines, "train a student from it:", f"  {model.command()}"]


def _export(
    source: str, destination: Path, *, dtype: str | None, like: Path | None, vocabulary: Path | None
) -> list[str]:
    model = convert_to_huggingface(source, destination, dtype=dtype, like=like, vocabulary=vocabulary)
    files = "1 file" if len(model.weights) == 1 else f"{len(model.weights)} files"
    lines = [f"{destination}: {model.sizes.family}, {model.dtype}, {files} of weights"]
    if not model.has_tokenizer:
        lines.append(
            "no tokenizer: name the SentencePiece model with --vocabulary, or a folder that has one with --like"
        )
    return [*lines, "load it:", f"  transformers.AutoModelForSeq2SeqLM.from_pretrained({str(destination)!r})"]


def _copy(source: str, destination: Path, dtype: str | None) -> list[str]:
    """Any checkpoint in T5X's older layout, optimizer and all."""
    saved = open_checkpoint(source)

    def arrays() -> Sequence[tuple[str, object]]:
        for name, store in saved.arrays().items():
            is_float = numpy_dtype(store).kind in "fV"  # numpy counts bfloat16 among V
            numbers = store.read().result()
            yield (
                name,
                cast(numbers, dtype, name=name) if is_float and name.startswith(PARAMETERS) else numbers,
            )

    checkpoint = destination / checkpoint_folders.name_of(saved.step)
    write_checkpoint(checkpoint, arrays(), step=saved.step)
    return [
        f"{checkpoint}: in T5X's layout of msgpack and zarr, with the optimizer's state if {source} has it"
    ]
