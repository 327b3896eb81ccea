"""T5 and decoder-only models from and to Hugging Face's folders, and from GGUF files: `stepdistill convert`. Importing this opens nothing."""

import importlib
from typing import Any

_LAZY = {
    "convert": "conversion",
    "convert_from_gguf": "gguf_files.from_gguf",
    "convert_from_huggingface": "from_huggingface",
    "convert_to_huggingface": "to_huggingface",
}

__all__ = [*_LAZY]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(f"stepdistill_jax.interop.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
