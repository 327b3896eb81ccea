"""Whether data say what they said when a run began."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stepdistill_jax.datasets import record_io
from stepdistill_jax.datasets.lineage import content
from stepdistill_jax.datasets.lineage.content import Identity
from stepdistill_jax.datasets.lineage.indexes import kept_index, split_index
from stepdistill_jax.datasets.lineage.mixed_data import HOW_TO_GO_ON

Contents = Mapping[str, Mapping[str, Any]]


def changes(earlier: Contents, now: Contents, *, place: Path) -> list[str]:
    """A line for each part of the data that says something else than it did, or whose training rows stand in another order.

    Args:
      earlier: part -> identity, as `place` has it; a part that it lacks is not compared.
      now: the same of what is read now.
      place: the run's folder.
    """
    return [
        f"{part} is not what {place} began with: {what} Put it back, or use another folder. {HOW_TO_GO_ON}"
        for part, identity in now.items()
        if part in earlier
        for what in [
            _change(Identity.read(earlier[part]), Identity.read(identity), ordered=part.endswith("/train"))
        ]
        if what
    ]


def changed_since(earlier: Contents, root: Path, *, place: Path) -> list[str]:
    """As `changes`, for all parts that `earlier` names and that are still there below `root`."""
    now = {}
    for part in earlier:
        folder, _, split = part.rpartition("/")
        manifest = record_io.read_manifest(root / folder)
        if manifest is not None and split in manifest["counts"]:
            now[part] = split_index(root / folder, split).identity.as_dict()
    return changes(earlier, now, place=place)


def _change(then: Identity, now: Identity, *, ordered: bool) -> str:
    """'' where nothing has changed that counts."""
    if then.sha256 == now.sha256:
        return "the same records stand in another order." if ordered and then.order != now.order else ""
    before, after = kept_index(then), kept_index(now)
    counted = ""
    if before is not None and after is not None:
        difference = content.difference(before, after)
        counted = (
            f" {difference}" if difference else " the examples are the same, the answers to them are others"
        )
    return f"{counted.lstrip()}{';' if counted else ''} then {then}; now {now}.".lstrip()
