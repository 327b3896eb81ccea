"""Whether the runs of a report learned from, and were judged by, the same data."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from stepdistill_jax.datasets import record_io
from stepdistill_jax.datasets.lineage.belonging import OF_EXAMPLES
from stepdistill_jax.datasets.lineage.content import SHOWN
from stepdistill_jax.datasets.lineage.mixed_data import HOW_TO_GO_ON, settle

# Files of a run that say what their data were, and in which of their entries.
_SAY = ("run.json", "result.json", "predictions/data.json", "*/predictions/data.json")


@dataclass(frozen=True)
class DataOfRun:
    """What a run's files say of its data.

    Attributes:
      name: of the run.
      said: (part of the data, first digits of its identity, the file that says so).
      targets: example id -> gold label of the test predictions.
      allowed: what did not belong together, and was allowed when it was trained.
    """

    name: str
    said: tuple[tuple[str, str, str], ...]
    targets: Mapping[str, str]
    allowed: tuple[str, ...]


def data_of(name: str, folder: Path, targets: Mapping[str, str]) -> DataOfRun:
    """Read from a run's folder; runs of earlier versions say nothing but their targets."""
    files = [path for pattern in _SAY for path in sorted(folder.glob(pattern))]
    said = dict.fromkeys(
        (part, digits, path.relative_to(folder).as_posix())
        for path in files
        for part, digits in _parts(_read(path))
    )
    starts = _read(folder / "run.json").get("starts") or []
    allowed = dict.fromkeys(line for start in starts for line in start.get("mixed_data") or ())
    return DataOfRun(name, tuple(said), targets, tuple(allowed))


def data_of_teacher(folder: Path) -> DataOfRun:
    """What a teacher's manifest says, of its answers and of the examples that it answers."""
    manifest = record_io.read_manifest(folder) or {}
    dataset, teacher = manifest.get("dataset"), manifest.get("teacher")
    parts = {
        f"{dataset}/rationales/{teacher}": manifest.get(record_io.IDENTITY) or {},
        f"{dataset}/examples": manifest.get(OF_EXAMPLES) or {},
    }
    said = [
        (f"{part}/{split}", identity["sha256"][:SHOWN], record_io.MANIFEST)
        for part, splits in parts.items()
        for split, identity in splits.items()
    ]
    return DataOfRun(str(teacher), tuple(said), {}, ())


def check_same_data(runs: Sequence[DataOfRun]) -> list[str]:
    """What a report must say in its head: data that do not belong together, where that is allowed.

    Raises:
      MixedData: where it is not; one line that names the runs, what differs and the mend.
    """
    found = settle(mixed_data(runs))
    trained = [
        f"{run.name} was trained on data that do not belong together: {_without_advice(line)}"
        for run in runs
        for line in run.allowed
    ]
    return [*map(_without_advice, found), *trained]


def mixed_data(runs: Sequence[DataOfRun]) -> list[str]:
    """A line for each thing that differs between the runs, or between the files of one, and must not."""
    return [*_different_parts(runs), *_different_targets(runs)]


def _different_parts(runs: Iterable[DataOfRun]) -> Iterator[str]:
    by_part: dict[str, dict[str, list[str]]] = {}
    for run in runs:
        for part, digits, file in run.said:
            by_part.setdefault(part, {}).setdefault(digits, []).append(f"{run.name}/{file}")
    for part, places in by_part.items():
        if len(places) > 1:
            said = "; ".join(f"{digits} say {_few(files)}" for digits, files in places.items())
            yield (
                f"{part} was not the same for all: {said}. Numbers of different data can't be compared: run or evaluate "
                f"again what is older, or report them apart. {HOW_TO_GO_ON}"
            )


def _different_targets(runs: Sequence[DataOfRun]) -> Iterator[str]:
    for a, b in combinations(runs, 2):
        shared = a.targets.keys() & b.targets.keys()
        if different := sorted(name for name in shared if a.targets[name] != b.targets[name]):
            yield (
                f"{a.name} and {b.name} were judged by different labels on {len(different):,} of {len(shared):,} test "
                f"questions: {different[0]} has {a.targets[different[0]]!r} and {b.targets[different[0]]!r}. Evaluate again "
                f"what is older, or report them apart. {HOW_TO_GO_ON}"
            )


def _parts(value: Any) -> Iterator[tuple[str, str]]:
    """Wherever in a file: 'FOLDER/SPLIT' -> identity, whole (run.json) or its first digits (metrics, predictions)."""
    if not isinstance(value, Mapping):
        return
    for name, inner in value.items():
        if isinstance(inner, str) and "/" in name:
            yield name, inner[:SHOWN]
        elif isinstance(inner, Mapping) and isinstance(inner.get("sha256"), str):
            yield name, inner["sha256"][:SHOWN]
        else:
            yield from _parts(inner)


def _read(path: Path) -> dict[str, Any]:
    """A file's object; {} where there is none, or none that is one: whoever needs it says so."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3:,} more" if len(names) > 3 else "")


def _without_advice(line: str) -> str:
    return line.removesuffix(HOW_TO_GO_ON).rstrip()
