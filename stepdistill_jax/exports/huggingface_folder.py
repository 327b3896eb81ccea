"""A run's student as a folder that transformers loads, 4 and 5: weights, config.json, and a tokenizer that needs no SentencePiece."""

import json
from pathlib import Path

from stepdistill_jax.interop import convert_to_huggingface
from stepdistill_jax.interop.t5.sentencepiece_tokenizer import tokenizer_json
from stepdistill_jax.prediction.description import TOKENIZERS, StudentDescription

QUANTIZATIONS = ("float32", "bfloat16", "float16")
_SPECIAL = {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}


def write_huggingface(
    checkpoint: Path, folder: Path, *, description: StudentDescription, dtype: str, verify: bool
) -> None:
    """Writes into a folder that has the student's description and vocabulary already."""
    vocabulary = description.vocabulary
    file = folder / vocabulary.file if vocabulary.file else None
    converted = folder / "converted"
    convert_to_huggingface(checkpoint, converted, dtype=dtype, vocabulary=file, verify=verify)
    for path in converted.iterdir():
        path.rename(folder / path.name)
    converted.rmdir()
    _name_prefixes(folder / "config.json", description)
    if file is not None and vocabulary.kind != TOKENIZERS:  # a tokenizer.json is there as it was trained with
        _write_tokenizer(folder, file, vocabulary.extra_ids, max_tokens=description.feature_lengths["inputs"])


def _name_prefixes(path: Path, description: StudentDescription) -> None:
    """Where transformers has them: one entry a task, as in T5's own config.json."""
    prefixes = {"label": description.label_prefix}
    if description.learns_rationales:
        prefixes["rationale"] = description.rationale_prefix
    longest = description.feature_lengths["targets"]
    settings = {name: {"prefix": prefix, "max_length": longest} for name, prefix in prefixes.items()}
    config = json.loads(path.read_text(encoding="utf-8")) | {"task_specific_params": settings}
    _write_json(path, config)


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _write_tokenizer(folder: Path, file: Path, extra_ids: int, *, max_tokens: int) -> None:
    """tokenizer.json, used as it is: its ids are those that the student was trained with."""
    settings = {
        **_SPECIAL,
        "tokenizer_class": "PreTrainedTokenizerFast",
        "additional_special_tokens": [f"<extra_id_{number}>" for number in range(extra_ids)],
        "model_max_length": max_tokens,
    }
    for name, value in (
        ("tokenizer.json", tokenizer_json(file, extra_ids=extra_ids)),
        ("tokenizer_config.json", settings),
        ("special_tokens_map.json", _SPECIAL),
    ):
        _write_json(folder / name, value)
