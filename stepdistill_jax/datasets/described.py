"""Datasets that need no Python: DATA/<name>/dataset.json describes one, and every command and SeqIO find it by its name.

`stepdistill prepare FILE` writes it beside the examples; a run keeps a copy of its dataset's.
"""

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stepdistill_jax.base import locations
from stepdistill_jax.base.whole_files import write_atomically
from stepdistill_jax.datasets.dataset import SPLITS, CompletionFormat, Dataset, Fields

FILE = "dataset.json"
FORMAT = 1
_TEXTS = ("name", "inputs", "instruction", "metric", "default_teacher", "licence", "homepage")


def path_of(name: str, data_dir: str | os.PathLike[str] | None = None) -> Path:
    """DATA/<name>/dataset.json."""
    return locations.data_dir(data_dir) / name / FILE


def names_in(data_dir: str | os.PathLike[str] | None = None) -> list[str]:
    """Names of the datasets that DATA describes."""
    return sorted(path.parent.name for path in locations.data_dir(data_dir).glob(f"[!.]*/{FILE}"))


def find(name: str, data_dir: str | os.PathLike[str] | None = None) -> Dataset:
    """The dataset that DATA describes by this name.

    Raises:
      FileNotFoundError: if there is none.
      ValueError: says what is wrong with its description; or that the examples beside it are others.
    """
    path = path_of(name, data_dir)
    said = read(path)
    if said["name"] != name:
        raise ValueError(f"{path}: describes '{said['name']}'; the folder's name is to be the dataset's.")
    manifest = path.parent / "examples" / "manifest.json"
    if manifest.exists() and "examples_sha256" in said:
        written = json.loads(manifest.read_text(encoding="utf-8")).get("examples_sha256")
        if written != said["examples_sha256"]:
            raise ValueError(
                f"{path}: describes other examples than those beside it; run: {said.get('command', 'stepdistill prepare')}"
            )
    dataset = _dataset(path, said)
    _check_choices(path, said, dataset.choices)
    return dataset


def _check_choices(path: Path, said: Mapping[str, Any], choices: Sequence[str]) -> None:
    """Choices that somebody has renamed here are not the labels of the examples any more.

    Raises:
      ValueError: names a label of the training examples that is none of the choices.
    """
    train = said["splits"].get("train")
    labels = (train.get("labels") if isinstance(train, dict) else None) or {}
    if choices and (others := [label for label in labels if label not in choices]):
        raise ValueError(
            f"{path}: 'choices' lacks {others[0]!r}, a label of the training examples, which would never be answered right. Put it back, "
            f"or change the labels in the table and run: {said.get('command', 'stepdistill prepare')}"
        )


def read_description(path: Path) -> Dataset:
    """The dataset of a dataset.json, wherever it lies.

    Raises:
      FileNotFoundError: if it is not there.
      ValueError: names the file and the key that is wrong.
    """
    return _dataset(path, read(path))


def read(path: Path) -> dict[str, Any]:
    """What a dataset.json says, as it stands, with what of it is not part of a `Dataset`, too.

    Raises:
      FileNotFoundError: if it is not there.
      ValueError: if it is no description that this version reads.
    """
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such description of a dataset.") from None
    except ValueError as error:
        raise ValueError(f"{path}: not JSON ({error}); prepare the dataset again.") from None
    if not isinstance(said, dict) or said.get("format") != FORMAT:
        raise ValueError(f"{path}: no description of format {FORMAT}; prepare the dataset again.")
    for key in _TEXTS:
        if not isinstance(said.get(key), str):
            raise ValueError(f"{path}: {key!r} is to be a text, not {said.get(key)!r}.")
    return said


def as_data(dataset: Dataset) -> dict[str, Any]:
    """A dataset, registered or described, as JSON says it: what `read_description` reads back, but for how rows are read."""
    return {
        "format": FORMAT,
        **{key: getattr(dataset, key) for key in _TEXTS},
        "choices": list(dataset.choices) or None,
        "label_words": dict(dataset.label_words),
        "completion": dataclasses.asdict(dataset.completion),
        "splits": {split: {} for split in dataset.splits},
    }


def write_description(path: Path, dataset: Dataset, facts: Mapping[str, Any]) -> None:
    """Writes a dataset.json, whole, unless it says the same already.

    Args:
      facts: what is to be known besides: columns, sources, how splits were made. 'splits' is to have the dataset's.
    """
    text = json.dumps({**as_data(dataset), **facts}, indent=2, ensure_ascii=False) + "\n"
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        write_atomically(path, text)


def _dataset(path: Path, said: Mapping[str, Any]) -> Dataset:
    splits = said.get("splits")
    if not isinstance(splits, dict) or not splits or set(splits) - set(SPLITS):
        raise ValueError(f"{path}: 'splits' is to name some of {', '.join(SPLITS)}, not {splits!r:.60}.")
    choices = said.get("choices") or ()
    if not all(isinstance(choice, str) and choice.strip() for choice in choices):
        raise ValueError(f"{path}: 'choices' is to be null or a list of texts, not {choices!r:.60}.")
    try:
        return Dataset(
            **{key: said[key] for key in _TEXTS},
            to_example=from_table,
            files={split: "its table" for split in SPLITS if split in splits},
            choices=tuple(choices),
            label_words=said.get("label_words", {}),
            completion=CompletionFormat(**said.get("completion", {})),
        )
    except (TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{path}: {error}") from error


def from_table(row: Mapping[str, Any]) -> Fields:
    """No row of a described dataset is read again: its examples are there.

    Raises:
      ValueError: always.
    """
    raise ValueError("a dataset that is described is prepared from its table: stepdistill prepare FILE")
