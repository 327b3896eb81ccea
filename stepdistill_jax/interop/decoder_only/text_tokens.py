"""Which tokens of a decoder-only model's tokenizer start and end a text here.

Its own settings say what ends an answer. What starts a text they often do not: SmolLM2's chat model calls '<|im_start|>' so, Qwen's
call none so. What training put between texts is the same for a family, and is known by name.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stepdistill_jax.base.vocabularies.tokenizer_files import ids_of_tokens, load_tokenizer
from stepdistill_jax.interop.json_files import read_json
from stepdistill_jax.interop.kept_files import TOKENIZER_CONFIG, TOKENIZER_JSON

# Llama 3, Gemma, SmolLM2 and Qwen, Llama 2; the first that a vocabulary has.
_STARTS = ("<|begin_of_text|>", "<bos>", "<|endoftext|>", "<s>")
_ENDS = ("<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|end_of_text|>", "<eos>", "</s>")


@dataclasses.dataclass(frozen=True)
class TextTokens:
    """Attributes:
    start: begins a text and pads: our id 0.
    end: ends inputs and targets.
    start_id, end_id: in the file.
    num_ids: that texts, starts and ends have.
    """

    start: str
    end: str
    start_id: int
    end_id: int
    num_ids: int


def find_text_tokens(folder: Path, *, start: str | None = None, end: str | None = None) -> TextTokens | None:
    """Of a folder's tokenizer.json; None where it has none.

    Args:
      start, end: tokens to take in place of those that are found.

    Raises:
      ValueError: if they can't be told, or the tokenizer does not have them.
    """
    file = folder / TOKENIZER_JSON
    if not file.is_file():
        if start or end:
            raise ValueError(f"{folder} has no {TOKENIZER_JSON}, whose tokens --start and --end name.")
        return None
    names = ids_of_tokens(str(file))
    settings = read_json(folder / TOKENIZER_CONFIG) if (folder / TOKENIZER_CONFIG).is_file() else {}
    own_start, own_end = _content(settings, "bos_token"), _content(settings, "eos_token")
    start = start or _first(names, (*_STARTS, own_start))
    end = end or _first(names, (own_end, *_ENDS), but=start)
    if start is None or end is None:
        missing = "start" if start is None else "end"
        raise ValueError(
            f"{file}: which of its tokens {missing}s a text can't be told; name it by --{missing}."
        )
    return tokens_of_file(str(file), start, end)


def tokens_of_file(file: str, start: str, end: str) -> TextTokens:
    """Those of a tokenizer.json, with their ids.

    Raises:
      ValueError: if it does not have them.
    """
    words = load_tokenizer(file, start, end)
    names = ids_of_tokens(file)
    return TextTokens(start, end, names[start], names[end], words.vocab_size)


def _content(settings: Mapping[str, Any], name: str) -> str | None:
    token = settings.get(name)
    token = token.get("content") if isinstance(token, dict) else token
    return token if isinstance(token, str) else None


def _first(names: Mapping[str, int], wanted: tuple[str | None, ...], *, but: str | None = None) -> str | None:
    return next((token for token in wanted if token in names and token != but), None)
