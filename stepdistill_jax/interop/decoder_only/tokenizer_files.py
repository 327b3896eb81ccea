"""A decoder-only model's tokenizer for transformers: the file that a student was trained with, and its settings."""

import shutil
from pathlib import Path

from stepdistill_jax.interop.decoder_only.text_tokens import TextTokens
from stepdistill_jax.interop.json_files import read_json, write_json
from stepdistill_jax.interop.kept_files import TOKENIZER, TOKENIZER_CONFIG, TOKENIZER_JSON


def ids_of(tokens: TextTokens | None) -> dict[str, int]:
    """'bos_token_id', 'eos_token_id' and 'pad_token_id' for config.json, in Hugging Face's vocabulary."""
    if tokens is None:
        return {}
    return {
        "bos_token_id": tokens.start_id,
        "eos_token_id": tokens.end_id,
        "pad_token_id": tokens.start_id,
    }


def write_tokenizer(folder: Path, tokenizer: Path | None, tokens: TextTokens | None) -> bool:
    """Writes tokenizer.json and generation_config.json, as far as `folder` does not have them already.

    Another tokenizer.json than the student's gives way, with all that came with it. A generation_config.json that stops at other
    tokens gets the student's end besides.

    Returns:
      whether there is a tokenizer now.
    """
    place = folder / TOKENIZER_JSON
    if tokenizer is not None and tokens is not None:
        if not place.is_file() or place.read_bytes() != tokenizer.read_bytes():
            for name in TOKENIZER:
                (folder / name).unlink(missing_ok=True)
            shutil.copyfile(tokenizer, place)
        if not (folder / TOKENIZER_CONFIG).is_file():
            settings = {
                "tokenizer_class": "PreTrainedTokenizerFast",
                "bos_token": tokens.start,
                "eos_token": tokens.end,
                "pad_token": tokens.start,
                "add_bos_token": False,
                "clean_up_tokenization_spaces": False,
            }
            write_json(folder / TOKENIZER_CONFIG, settings)
        _write_generation(folder / "generation_config.json", tokens)
    return place.is_file()


def _write_generation(place: Path, tokens: TextTokens) -> None:
    """Where generation stops: a model that the student began with may have ended otherwise (Qwen's base models do)."""
    if not place.is_file():
        write_json(place, ids_of(tokens))
        return
    settings = read_json(place)
    ends = settings.get("eos_token_id")
    ends = ends if isinstance(ends, list) else [] if ends is None else [ends]
    if tokens.end_id not in ends:
        write_json(place, {**settings, "eos_token_id": [tokens.end_id, *ends]})
