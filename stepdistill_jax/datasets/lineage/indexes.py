"""The content of a folder's split, kept beside the token ids: computed from its records once, then found by its files' checksums.

    CACHE/content/<identity>-<order>-<checksums>.npz    a `ContentIndex`

So a folder that was written before folders had identities has one, too. Everything there can be deleted at any time.
"""

import functools
import hashlib
import zipfile
from pathlib import Path

import numpy as np

from stepdistill_jax.base import locations
from stepdistill_jax.base.whole_files import whole_file
from stepdistill_jax.datasets import record_io
from stepdistill_jax.datasets.lineage.content import (
    ANSWER_FEATURES,
    EXAMPLE_FEATURES,
    ContentIndex,
    Identity,
    index_of,
)

_FORMAT = "2"  # of the digests and hashes of questions


def split_index(folder: Path, split: str) -> ContentIndex:
    """The content of a split, from the cache where it was computed before.

    Raises:
      ValueError: if the folder or the split is not there, or a file is damaged.
    """
    return _index(folder, split, record_io.verify_once(folder))


@functools.lru_cache(maxsize=32)
def _index(folder: Path, split: str, written_ns: int) -> ContentIndex:
    """`written_ns` is the manifest's time: a folder that was written anew is read anew."""
    del written_ns
    key = _checksums(folder, split)
    cache = locations.cache_dir()
    if cache is not None:
        for path in (cache / "content").glob(f"*-{key}.npz"):
            if (kept := _load(path)) is not None:
                return kept
    index = index_of(record_io.read_records(folder, split, features=(*EXAMPLE_FEATURES, *ANSWER_FEATURES)))
    if cache is not None:
        _keep(index, cache / "content" / f"{_name(index.identity)}-{key}.npz")
    return index


def kept_index(identity: Identity) -> ContentIndex | None:
    """What a split once said, if the cache still has it: to count what has changed since."""
    cache = locations.cache_dir()
    found = sorted((cache / "content").glob(f"{_name(identity)}-*.npz")) if cache is not None else []
    return next((index for path in found if (index := _load(path)) is not None), None)


def _checksums(folder: Path, split: str) -> str:
    """What the index depends on: the split's files, as the manifest has them."""
    files = record_io.read_manifest(folder)["files"]
    shards = [files[name] for name in record_io.shards_of(files, split)]
    return hashlib.sha256("\n".join([_FORMAT, split, *shards]).encode()).hexdigest()[:32]


def _name(identity: Identity) -> str:
    return f"{identity.sha256[:32]}-{identity.order}"


def _load(path: Path) -> ContentIndex | None:
    """An index of the cache; None if it is gone, or not whole."""
    try:
        with path.open("rb") as file, np.load(file) as kept:
            identity = Identity(str(kept["sha256"]), str(kept["order"]), len(kept["ids"]))
            return ContentIndex(identity, kept["ids"], kept["examples"], kept["questions"])
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return None


def _keep(index: ContentIndex, path: Path) -> None:
    try:
        with whole_file(path) as temporary, temporary.open("wb") as file:
            np.savez(
                file,
                sha256=index.identity.sha256,
                order=index.identity.order,
                ids=index.ids,
                examples=index.examples,
                questions=index.questions,
            )
    except OSError:  # a full or read-only disk: it is computed again next time
        return
