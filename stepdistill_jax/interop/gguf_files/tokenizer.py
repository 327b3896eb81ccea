"""The tokenizer that a GGUF file has inside, as tokenizer.json: pairs of bytes, and how a text is cut before them.

A GGUF file names the cut ('tokenizer.ggml.pre') and leaves the rest to llama.cpp. The patterns below are those of the models' own
tokenizer.json. Vocabularies of SentencePiece ('llama', Gemma's) are `sentencepiece_tokenizer`'s.
"""

from collections import Counter
from pathlib import Path
from typing import Any

from stepdistill_jax.interop.gguf_files.reading import GGUFFile
from stepdistill_jax.interop.gguf_files.sentencepiece_tokenizer import (
    CONTROL,
    NORMAL,
    USER_DEFINED,
    scored_tokenizer,
)
from stepdistill_jax.interop.json_files import write_json
from stepdistill_jax.interop.kept_files import TOKENIZER_CONFIG, TOKENIZER_JSON

BYTE_PAIRS, SCORED_PAIRS = "gpt2", "llama"  # llama.cpp's names of the kinds
_CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_WORDS = r"|[^\r\n\p{L}\p{N}]?\p{L}+"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_BYTES: dict[str, Any] = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
_GPT2 = [_BYTES | {"use_regex": True}]


def _split(pattern: str) -> list[dict[str, Any]]:
    cut = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    return [cut, _BYTES | {"use_regex": False}]


_LLAMA3 = _split(_CONTRACTIONS + _WORDS + r"|\p{N}{1,3}" + _REST)
PRE_TOKENIZERS: dict[str, list[dict[str, Any]]] = {
    "gpt-2": _GPT2,
    "smollm": [{"type": "Digits", "individual_digits": True}, *_GPT2],
    "qwen2": _split(_CONTRACTIONS + _WORDS + r"|\p{N}" + _REST),
    "llama-bpe": _LLAMA3,
    "llama-v3": _LLAMA3,
    "llama3": _LLAMA3,
}
_NORMALISED = {"qwen2": {"type": "NFC"}}
# Where a whole word is a piece, it is taken without merging.
_WHOLE_WORDS = {"llama-bpe", "llama-v3", "llama3"}


def write_tokenizer(file: GGUFFile, folder: Path) -> None:
    """Writes tokenizer.json and tokenizer_config.json.

    Raises:
      ValueError: if it is of a kind that we do not rebuild.
    """
    content = tokenizer_json(file)
    tokens = file.fields["tokenizer.ggml.tokens"]
    settings: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": file.of_architecture("context_length", 2048),
        "clean_up_tokenization_spaces": False,
    }
    for name, ours in (
        ("bos", "bos_token"),
        ("eos", "eos_token"),
        ("unknown", "unk_token"),
        ("padding", "pad_token"),
    ):
        token = file.fields.get(f"tokenizer.ggml.{name}_token_id")
        if token is not None and token < len(tokens):
            settings[ours] = tokens[token]
    if template := file.fields.get("tokenizer.chat_template"):
        settings["chat_template"] = template
    write_json(folder / TOKENIZER_JSON, content)
    write_json(folder / TOKENIZER_CONFIG, settings)


def tokenizer_json(file: GGUFFile) -> dict[str, Any]:
    """The content of tokenizer.json.

    Raises:
      ValueError: if it is of a kind that we do not rebuild.
    """
    kind, pre = file.fields.get("tokenizer.ggml.model"), file.fields.get("tokenizer.ggml.pre", "default")
    if kind not in (BYTE_PAIRS, SCORED_PAIRS):
        raise ValueError(
            f"{file.path}: tokenizer.ggml.model={kind!r}; we rebuild {BYTE_PAIRS!r} and {SCORED_PAIRS!r} alone. Convert the model's "
            "Hugging Face folder, which has its tokenizer.json."
        )
    tokens = _tokens(file)
    types = file.fields.get("tokenizer.ggml.token_type") or [NORMAL] * len(tokens)
    if len(types) != len(tokens):
        raise ValueError(
            f"{file.path} has {len(types)} tokenizer.ggml.token_type for {len(tokens)} tokens; take another conversion of the model."
        )
    if kind == SCORED_PAIRS:
        return scored_tokenizer(tokens, types, file.fields, where=str(file.path))
    if pre not in PRE_TOKENIZERS:
        raise ValueError(
            f"{file.path}: tokenizer.ggml.pre={pre!r}; we know how {', '.join(PRE_TOKENIZERS)} cut a text. Convert the model's "
            "Hugging Face folder, which has its tokenizer.json."
        )
    merges = file.fields.get("tokenizer.ggml.merges")
    if merges is None:
        raise ValueError(f"{file.path} has no tokenizer.ggml.merges; take another conversion of the model.")
    added = [
        {
            "id": token,
            "content": tokens[token],
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": types[token] == CONTROL,
        }
        for token in range(len(tokens))
        if types[token] in (CONTROL, USER_DEFINED)
    ]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": _NORMALISED.get(pre),
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": PRE_TOKENIZERS[pre]},
        "post_processor": None,
        "decoder": _BYTES | {"use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": pre in _WHOLE_WORDS,
            "vocab": {token: index for index, token in enumerate(tokens)},
            "merges": [merge.split(" ", 1) for merge in merges],
        },
    }


def _tokens(file: GGUFFile) -> list[str]:
    tokens = file.fields.get("tokenizer.ggml.tokens")
    if not tokens:
        raise ValueError(f"{file.path} has no tokenizer.ggml.tokens; take another conversion of the model.")
    if twice := sorted(token for token, count in Counter(tokens).items() if count > 1):
        raise ValueError(
            f"{file.path}: tokenizer.ggml.tokens has {twice[0]!r} more than once, so its id is not told; take another conversion of "
            "the model."
        )
    return tokens
