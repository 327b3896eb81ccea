"""What a task file is written with: datasets, their examples, and the SeqIO tasks made of them.

Importing this package imports neither TensorFlow nor SeqIO; the names below load their modules when first used.
"""

import importlib
from typing import Any

LABEL_TASK_ID = 1  # of every target token of a label, its end-of-sequence token included; 0 is padding
RATIONALE_TASK_ID = 2

_HOMES = {
    "registry": (
        "CompletionFormat",
        "Dataset",
        "Download",
        "Example",
        "Fields",
        "SPLITS",
        "check_task_name",
        "data_dir",
        "get",
        "labels_match",
        "load_tasks",
        "names",
        "register",
    ),
    "examples": (
        "examples_folder",
        "examples_manifest",
        "rationales_folder",
        "read_examples",
    ),
    "prepare": ("describe", "prepare"),
    "seqio_tasks": ("register_seqio", "teacher_of"),
    "vocabularies": ("embedded_vocabulary", "vocabulary"),
}
_MODULES = ("equations", "metrics", "record_io", "splits")
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = ["LABEL_TASK_ID", "RATIONALE_TASK_ID", *sorted(_HOME_OF), *_MODULES]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    if name in _HOME_OF:
        return getattr(importlib.import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
