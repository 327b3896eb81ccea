"""What comes with a model besides config.json and weights, and is handed on when it is exported again: small files."""

import shutil
from pathlib import Path

SENTENCEPIECE = "spiece.model"
ADAPTER = "adapter_config.json"  # of peft, in a folder of its own or beside the weights that it changes
TOKENIZER_JSON, TOKENIZER_CONFIG = "tokenizer.json", "tokenizer_config.json"
TOKENIZER = (
    SENTENCEPIECE,
    TOKENIZER_JSON,
    TOKENIZER_CONFIG,
    "special_tokens_map.json",
    "added_tokens.json",
    # Decoder-only models: byte pairs as older files have them, SentencePiece's of Gemma, and how a chat is written.
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "chat_template.jinja",
)
KEPT = (*TOKENIZER, "generation_config.json")


def copy_kept(source: Path, destination: Path) -> list[str]:
    """Copies the files of KEPT that `source` has; returns their names."""
    found = [name for name in KEPT if (source / name).is_file()]
    for name in found:
        shutil.copyfile(source / name, destination / name)
    return found
