"""Whether a question of a validation or test split is in what a student learns from."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from stepdistill_jax.datasets import record_io
from stepdistill_jax.datasets.lineage import content
from stepdistill_jax.datasets.lineage.content import normalized, question_hash
from stepdistill_jax.datasets.lineage.indexes import split_index
from stepdistill_jax.datasets.lineage.mixed_data import HOW_TO_GO_ON

_SHOWN = 10  # ids in a line


@dataclasses.dataclass(frozen=True)
class SplitOf:
    """A split of a folder of examples or answers."""

    folder: Path
    split: str

    def __str__(self) -> str:
        return f"{self.folder} ({self.split})"


def leaks(training: Sequence[SplitOf], kept: SplitOf) -> list[str]:
    """A line for each split of `training` that has questions of `kept`, however these are written (`content.normalized`)."""
    found = []
    for learned in training:
        if ids := shared_questions(learned, kept):
            found.append(
                f"{len(ids):,} of the {split_index(kept.folder, kept.split).identity.count:,} questions of {kept} are in what "
                f"is learned from, {learned}: {_ids(ids)}. Take them out of one of the two, and prepare it again. "
                f"{HOW_TO_GO_ON}"
            )
    return found


def shared_questions(learned: SplitOf, kept: SplitOf) -> list[tuple[str, str]]:
    """(id in `kept`, id in `learned`) of each question of `kept` that `learned` has, too."""
    training, held = split_index(learned.folder, learned.split), split_index(kept.folder, kept.split)
    common = set(content.shared_hashes(held.questions, training.questions).tolist())
    if not common:
        return []
    learned_ids = {normalized(inputs): name for name, inputs in _questions(learned, common)}
    return [
        (name, learned_ids[normalized(inputs)])
        for name, inputs in _questions(kept, common)
        if normalized(inputs) in learned_ids  # two texts may have the same hash
    ]


def _questions(one: SplitOf, hashes: set[int]) -> list[tuple[str, str]]:
    """(id, inputs) of the records whose questions have these hashes."""
    rows = record_io.read_records(one.folder, one.split, features=("example_id", "inputs"))
    return [(row["example_id"], row["inputs"]) for row in rows if question_hash(row["inputs"]) in hashes]


def _ids(pairs: Sequence[tuple[str, str]]) -> str:
    shown = ", ".join(f"{kept} (as {learned})" for kept, learned in pairs[:_SHOWN])
    return shown + (f" and {len(pairs) - _SHOWN:,} more" if len(pairs) > _SHOWN else "")
