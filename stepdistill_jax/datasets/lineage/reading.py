"""What a task reads, and all that must hold of what the tasks of a mixture read together."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from stepdistill_jax.base import locations
from stepdistill_jax.base.messages import say_once
from stepdistill_jax.datasets import record_io
from stepdistill_jax.datasets.dataset import Dataset
from stepdistill_jax.datasets.lineage.belonging import misfits
from stepdistill_jax.datasets.lineage.indexes import split_index
from stepdistill_jax.datasets.lineage.leaks import SplitOf, leaks

_ORIGIN = ("source", "source_sha256", "teacher", "model", "server", "answered_by", "prompt_hash", "sources")


@dataclasses.dataclass(frozen=True)
class Reading:
    """What a task reads for a split.

    Attributes:
      dataset: that it is a task of.
      split: that is read.
      examples: the folder of the dataset's examples.
      rows: what its rows come from, in which the first is the dataset's own.
      answers: the teacher's among them, each with the folder of the examples that it should answer.
    """

    dataset: Dataset
    split: str
    examples: Path
    rows: tuple[SplitOf, ...]
    answers: tuple[tuple[SplitOf, Path], ...] = ()

    @property
    def held_out(self) -> Iterator[SplitOf]:
        """What the dataset keeps for validation and test."""
        manifest = record_io.read_manifest(self.examples) or {"counts": ()}
        return (SplitOf(self.examples, split) for split in manifest["counts"] if split != "train")


def problems(readings: Sequence[Reading]) -> Iterator[str]:
    """A line for each thing that does not belong together; what a dataset's authors have shared on purpose is only said."""
    for reading in readings:
        for answers, examples in reading.answers:
            yield from misfits(answers.folder, examples, answers.split)
    learned = dict.fromkeys(part for reading in readings if reading.split == "train" for part in reading.rows)
    held_out = {part: reading.dataset for reading in readings for part in reading.held_out}
    for kept, dataset in held_out.items():
        for line in leaks(list(learned), kept):
            if dataset.shared_questions:
                say_once(f"{line} That is so on purpose: {dataset.shared_questions}")
            else:
                yield line


def identities(reading: Reading, *, whole_dataset: bool = False) -> dict[str, dict[str, Any]]:
    """'FOLDER/SPLIT', below DATA, to the identity of what it says, and under 'from' to what that was made of.

    `whole_dataset` adds the splits that are not read. A split that a teacher was not asked of is left out, as it is in evaluation.
    """
    root, parts = locations.data_dir(), list(reading.rows)
    if whole_dataset and (manifest := record_io.read_manifest(reading.examples)) is not None:
        parts += [SplitOf(reading.examples, split) for split in manifest["counts"]]
    return {
        f"{part.folder.relative_to(root).as_posix()}/{part.split}": {
            **split_index(part.folder, part.split).identity.as_dict(),
            "from": origin(record_io.read_manifest(part.folder)),
        }
        for part in dict.fromkeys(parts)
        if _has_split(part)
    }


def _has_split(part: SplitOf) -> bool:
    manifest = record_io.read_manifest(part.folder)
    return manifest is None or part.split in manifest["counts"]


def origin(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """What a folder's records were made of, as far as its manifest says: published files, or a model and its prompt."""
    return {name: manifest[name] for name in _ORIGIN if manifest.get(name)}
