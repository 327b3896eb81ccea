"""A checkpoint as the decoder-only model that it holds: its sizes, and every parameter with the ids of its tokenizer's file."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stepdistill_jax.interop.checkpoint_arrays import Opened
from stepdistill_jax.interop.decoder_only import sizes as sizes_
from stepdistill_jax.interop.decoder_only.huggingface_config import sizes_of_config
from stepdistill_jax.interop.decoder_only.parameter_names import parameters
from stepdistill_jax.interop.decoder_only.sizes import DecoderSizes, sizes_of_settings
from stepdistill_jax.interop.decoder_only.swapped_rows import with_swapped_tokens
from stepdistill_jax.interop.decoder_only.text_tokens import TextTokens, find_text_tokens, tokens_of_file
from stepdistill_jax.interop.json_files import read_json
from stepdistill_jax.interop.kept_files import TOKENIZER_JSON
from stepdistill_jax.interop.lazy_array import LazyArray
from stepdistill_jax.interop.parameter import Parameter, of_checkpoint
from stepdistill_jax.interop.run_facts import RunFacts


@dataclasses.dataclass(frozen=True)
class DecoderCheckpoint:
    """Attributes:
    step: of training.
    sizes: of the network.
    parameters: each with its numbers, none of which is read yet, tokens in the order of the tokenizer's file; the embedding first.
    tokens: that start and end a text; None where there is no tokenizer.json.
    tokenizer: the file; likewise.
    run: what lies beside the checkpoint says.
    """

    step: int
    sizes: DecoderSizes
    parameters: Sequence[tuple[Parameter, LazyArray]]
    tokens: TextTokens | None
    tokenizer: Path | None
    run: RunFacts


def decoder_checkpoint(
    opened: Opened, *, like: Path | None = None, vocabulary: Path | None = None
) -> DecoderCheckpoint:
    """What an opened checkpoint is.

    Args:
      like: a Hugging Face folder with the settings and the tokenizer that nothing beside the checkpoint says.
      vocabulary: its tokenizer.json, in place of the one that was trained with (it may have been moved).

    Raises:
      ValueError: lists every parameter that is not the network's, or says what can't be told.
    """
    run = opened.run
    shapes = {name: array.shape for name, array in opened.arrays.items()}
    sizes = sizes_of_settings(_settings(run, like), shapes, where=opened.path)
    matched = of_checkpoint(parameters(sizes), opened.arrays, path=opened.path, kind=sizes.family)
    tokens, tokenizer = _tokens(run, like, vocabulary, opened.path)
    start = tokens.start_id if tokens else 0
    axes = {sizes_.EMBEDDING: 0, sizes_.HEAD: 1}
    arranged = [
        (
            parameter,
            with_swapped_tokens(array, start, axis=axes[parameter.name]) if parameter.name in axes else array,
        )
        for parameter, array in matched
    ]
    return DecoderCheckpoint(opened.step, sizes, arranged, tokens, tokenizer, run)


def _settings(run: RunFacts, like: Path | None) -> dict[str, Any]:
    if run.decoder_settings:
        return dict(run.decoder_settings)
    folder = like or run.huggingface
    if folder is None:
        return {}
    return vars(sizes_of_config(read_json(folder / "config.json"), where=str(folder / "config.json")))


def _tokens(
    run: RunFacts, like: Path | None, vocabulary: Path | None, path: str
) -> tuple[TextTokens | None, Path | None]:
    """What the file beside the checkpoint says that id 0 is; of a checkpoint without any, what the folder to be like has."""
    start, end = run.text_tokens
    file = vocabulary or run.vocabulary
    if start and end:
        if file is None and like and (like / TOKENIZER_JSON).is_file():
            file = like / TOKENIZER_JSON
        if file is None:
            raise ValueError(
                f"{path}: its {TOKENIZER_JSON}, which says which row of the embedding is {start!r}, is not where it was when it was "
                "trained; name it by --vocabulary."
            )
        return tokens_of_file(os.fspath(file), start, end), file
    if run.is_told:
        return None, None
    if like is None:
        raise ValueError(
            f"{path}: no file beside it says which token its id 0 is; keep config.gin, model.gin or student.json beside it, or "
            "name the Hugging Face folder that it began with (--like)."
        )
    tokens = find_text_tokens(like)
    return tokens, like / TOKENIZER_JSON if tokens else None
