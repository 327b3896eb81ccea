"""Whether a teacher's answers are to the examples that lie beside them now."""

from pathlib import Path
from typing import Any

from stepdistill_jax.base.messages import say_once
from stepdistill_jax.datasets import record_io
from stepdistill_jax.datasets.lineage import content
from stepdistill_jax.datasets.lineage.content import ContentIndex
from stepdistill_jax.datasets.lineage.indexes import split_index
from stepdistill_jax.datasets.lineage.mixed_data import HOW_TO_GO_ON

OF_EXAMPLES = "of_examples"  # of a teacher's manifest: split -> identity of the examples that could be asked


def of_examples(examples: Path) -> dict[str, dict[str, Any]]:
    """What a teacher's manifest says of the examples that it answers: split -> identity. Computed where theirs lacks it."""
    manifest = record_io.read_manifest(examples) or {"counts": ()}
    known = manifest.get(record_io.IDENTITY) or {
        split: content.index_of(
            record_io.read_records(examples, split, features=content.EXAMPLE_FEATURES)
        ).identity.as_dict()
        for split in manifest["counts"]
    }
    return {OF_EXAMPLES: known}


def misfits(rationales: Path, examples: Path, split: str) -> list[str]:
    """What keeps a split's answers from belonging to its examples: [] or one line, with what differs and the mend."""
    written = record_io.read_manifest(rationales)
    if written is None or split not in written["counts"]:
        return []  # whoever reads it says so
    manifest = record_io.read_manifest(examples)
    if manifest is None:
        say_once(
            f"{rationales}: there are no examples in {examples}, so nobody can say whether they belong together."
        )
        return []
    if (named := written.get("teacher", rationales.name)) != rationales.name:
        return [
            f"{rationales} holds the answers of '{named}', says its manifest: name the folder so, or put back those of "
            f"'{rationales.name}'. {HOW_TO_GO_ON}"
        ]
    answered = split_index(rationales, split)
    if split not in manifest["counts"]:
        return [_line(rationales, examples, split, f"{examples} has no split '{split}'", answered, None)]
    asked = split_index(examples, split)
    difference = content.difference(answered, asked)
    gone, changed = difference.gone, difference.changed
    made_of = (record_io.read_manifest(rationales).get(OF_EXAMPLES) or {}).get(split)
    if gone or changed:
        what = f"{changed:,} of its {len(answered.ids):,} answers are to examples that say something else now, {gone:,} to ones that are gone"
    elif made_of is not None and made_of["sha256"] != asked.identity.sha256:
        what = f"{difference.new:,} of {asked.identity.count:,} examples have no answer, and they are not those that it was asked of"
    else:
        return []
    return [_line(rationales, examples, split, what, answered, asked)]


def _line(
    rationales: Path,
    examples: Path,
    split: str,
    what: str,
    answered: ContentIndex,
    asked: ContentIndex | None,
) -> str:
    made_of = (record_io.read_manifest(rationales).get(OF_EXAMPLES) or {}).get(split)
    then = f"made of {made_of['sha256'][: content.SHOWN]}" if made_of else "made by an earlier version"
    now = f"there is {asked.identity.sha256[: content.SHOWN]}" if asked else "there is none"
    return (
        f"{rationales} ({split}) does not belong to {examples}: {what} ({then}, {now}). Run stepdistill teach "
        f"{examples.parent.name} again: answers whose prompts are the same are reused. {HOW_TO_GO_ON}"
    )
