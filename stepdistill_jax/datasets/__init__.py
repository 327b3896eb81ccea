"""What a task file is written with. Importing this opens nothing; SeqIO and TensorFlow load at the first use."""

import importlib
from typing import Any

from stepdistill_jax.base.locations import data_dir
from stepdistill_jax.datasets.dataset import (
    LABEL_TASK_ID,
    RATIONALE_TASK_ID,
    SPLITS,
    CompletionFormat,
    Dataset,
    Example,
    Fields,
)
from stepdistill_jax.datasets.registry import get, names
from stepdistill_jax.datasets.scoring import labels_match

_LAZY = {
    "embedded_vocabulary": "vocabularies",
    "hold_out_validation": "splits",
    "prepare": "preparation",
    "prepared_manifest": "preparation",
    "read_examples": "preparation",
    "read_description": "described",
    "register": "registration",
    "register_described": "registration",
    "stream_examples": "preparation",
    "svamp_published": "splits",
    "task_choices": "choices",
    "vocabulary": "vocabularies",
    "vocabulary_choice": "vocabularies",
}

__all__ = [
    "LABEL_TASK_ID",
    "RATIONALE_TASK_ID",
    "SPLITS",
    "CompletionFormat",
    "Dataset",
    "Example",
    "Fields",
    "data_dir",
    "get",
    "labels_match",
    "names",
    *_LAZY,
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(f"stepdistill_jax.datasets.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
