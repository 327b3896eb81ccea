"""Which part of a train split a run learns from: nested subsets, the same on every machine and for every task."""

import functools
import hashlib
from collections.abc import Iterable
from pathlib import Path

from stepdistill_jax.datasets import record_io


def ranked(ids: Iterable[str], seed: int) -> list[str]:
    """The ids in the order in which a growing subset takes them: by blake2b of '<seed>\\n<id>'.

    The order of the data, the other ids and the share change nothing, so the subsets of one seed are nested.
    """
    return sorted(
        ids, key=lambda name: (hashlib.blake2b(f"{seed}\n{name}".encode(), digest_size=8).digest(), name)
    )


def chosen_ids(folder: Path, *, share: float, seed: int) -> list[str]:
    """The ids of round(share · n), at least one, of the n examples that a prepared dataset's train split has."""
    written_ns = (folder / record_io.MANIFEST).stat().st_mtime_ns
    everyone = _ranked_examples(folder, written_ns, seed)
    return everyone[: max(1, round(share * len(everyone)))]


@functools.lru_cache(maxsize=4)
def _ranked_examples(folder: Path, written_ns: int, seed: int) -> list[str]:
    """All of the train split; `written_ns` tells a folder that was written anew."""
    del written_ns
    rows = record_io.read_records(folder, "train", features=("example_id",))
    return ranked((row["example_id"] for row in rows), seed)
