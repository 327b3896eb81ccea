"""Prepared examples on disk: DATA/<dataset>/examples/."""

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stepdistill_jax.datasets import record_io, registry
from stepdistill_jax.datasets.registry import Example

FEATURES = {
    "example_id": "text",
    "dataset": "text",
    "split": "text",
    "inputs": "text",
    "label": "text",
    "has_label": "bool",
    "choices": "texts",
    "explanation": "text",
    "source_split": "text",
    "source_row": "int",
}


def examples_folder(name: str, data_dir: str | os.PathLike | None = None) -> Path:
    """DATA/<name>/examples."""
    return registry.data_dir(data_dir) / name / "examples"


def rationales_folder(name: str, teacher: str, data_dir: str | os.PathLike | None = None) -> Path:
    """DATA/<name>/rationales/<teacher>."""
    return registry.data_dir(data_dir) / name / "rationales" / teacher


def to_record(example: Example) -> dict[str, Any]:
    """The record of an example: no gold label is label '' with has_label False."""
    record = dataclasses.asdict(example)
    return {**record, "label": example.label or "", "has_label": example.label is not None}


def from_record(record: Mapping[str, Any]) -> Example:
    """The example of a record."""
    fields = {field.name: record[field.name] for field in dataclasses.fields(Example)}
    return Example(**{**fields, "label": record["label"] if record["has_label"] else None})


def examples_manifest(name: str, data_dir: str | os.PathLike | None = None) -> dict[str, Any]:
    """The manifest of the prepared examples; a ValueError says how to prepare them."""
    folder = examples_folder(name, data_dir)
    manifest = record_io.read_manifest(folder)
    if manifest is None:
        raise ValueError(f"{name} is not prepared: no {folder}; run `stepdistill prepare {name}`.")
    return manifest


def read_examples(name: str, split: str, data_dir: str | os.PathLike | None = None) -> list[Example]:
    """The prepared examples of a split, in order.

    Raises:
      ValueError: if the dataset is not prepared, or has no such split.
    """
    examples_manifest(name, data_dir)
    return [from_record(record) for record in record_io.read_records(examples_folder(name, data_dir), split)]
