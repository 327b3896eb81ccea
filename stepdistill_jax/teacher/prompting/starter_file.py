"""A prompt file to begin with: training rows, one label after the other, whose rationales are to be written by hand."""

import hashlib
import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from stepdistill_jax.base.whole_files import write_atomically
from stepdistill_jax.teacher.prompting.prompt_files import TO_BE_WRITTEN, read_prompt_file
from stepdistill_jax.teacher.prompting.zero_shot import instruction_of, prompt_of

if TYPE_CHECKING:
    from stepdistill_jax.datasets import Dataset, Example

_LONG = 600  # characters: longer inputs are shown where there are no shorter ones
_HEAD = """\
# Worked examples for {name}, to be edited: rows of its training data, which are not asked for while they stand here.
# Every example needs a rationale that leads to its label{todo}.
"""


def write(path: Path, dataset: "Dataset", examples: Iterable["Example"], number: int) -> int:
    """Writes the file, and gives how many rationales are still to be written.

    Args:
      path: must not be there yet.
      examples: of the train split.
      number: of worked examples.

    Raises:
      FileExistsError: if the file is there; it may have been edited.
      ValueError: if there are not so many rows that can be shown.
    """
    if path.exists():
        raise FileExistsError(f"{path} is there; edit it, or name another file by --prompt.")
    chosen = _chosen(examples, number)
    if len(chosen) < number or number < 1:
        raise ValueError(
            f"--prompt_from {number}: {dataset.name} has {len(chosen):,} training rows to show; give a number from 1 to that."
        )
    missing = sum(not example.explanation.strip() for example in chosen)
    write_atomically(path, _text(dataset, chosen, missing))
    if not missing:
        read_prompt_file(path, dataset)
    return missing


def _chosen(examples: Iterable["Example"], number: int) -> list["Example"]:
    """A row of each label, then a second of each, and so on; which ones is drawn by what they say, short ones first."""
    by_label: dict[str, list[Example]] = {}
    for example in examples:
        if example.label is not None and len(example.label.splitlines()) == 1:
            by_label.setdefault(example.label, []).append(example)
    drawn = [sorted(by_label[label], key=_rank) for label in sorted(by_label)]
    turns = itertools.chain.from_iterable(itertools.zip_longest(*drawn))
    return list(itertools.islice((example for example in turns if example is not None), max(0, number)))


def _rank(example: "Example") -> tuple[bool, bool, bytes]:
    drawn = hashlib.blake2b(example.inputs.encode(), digest_size=8).digest()
    return not example.explanation.strip(), len(example.inputs) > _LONG, drawn


def _text(dataset: "Dataset", chosen: Sequence["Example"], missing: int) -> str:
    marker = dataset.completion.answer_marker
    prompt = prompt_of(dataset, dataset.choices)
    lines = [
        _HEAD.format(
            name=dataset.name, todo=f": write one in the place of each {TO_BE_WRITTEN}" if missing else ""
        ),
        "[prompt]",
        *_field("instruction", instruction_of(dataset, dataset.choices)),
        *_field("zero_shot", prompt.zero_shot),
        *_field("answer", f"{{rationale}}\n{marker} {{label}}"),
        "of_training_rows: yes",
    ]
    for example in chosen:
        lines += ["", "[example]", *_field("question", example.inputs)]
        lines += _field("rationale", example.explanation.strip() or TO_BE_WRITTEN)
        lines += _field("label", example.label)
    return "\n".join(lines) + "\n"


def _field(key: str, value: str) -> list[str]:
    """`key: value` in the form of a prompt file: further lines are indented, empty ones left out; [] of no value."""
    parts = [line.strip() for line in value.splitlines() if line.strip()]
    return [f"{key}: {parts[0]}", *(f"  {part}" for part in parts[1:])] if parts else []
