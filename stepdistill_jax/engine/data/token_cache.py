"""Tokenised splits on the disk, found by a hash of all that they depend on, so that a second start is quick.

    CACHE/<task>-<split>-<key>/   <feature>.tokens   int32, token ids of all examples, end to end
                                  <feature>.lengths  int32, of each example
                                  ids.npy            what the records call themselves, where they do
                                  meta.json          counts, of texts that do not fit too; written last

CACHE is `locations.cache_dir`. An entry is written under a temporary name and
then renamed, so two processes may make the same one at once. Everything in CACHE can be deleted at any time.
"""

import json
import os
import re
import shutil
import sys
import uuid
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
import seqio

from stepdistill_jax.base import locations
from stepdistill_jax.base.text_fit import task_fit
from stepdistill_jax.base.visible import visible
from stepdistill_jax.engine.data.content_key import content_key
from stepdistill_jax.engine.data.fit_counting import FitCounter
from stepdistill_jax.engine.data.tokenized_task import (
    Chunk,
    TokenizedTask,
    TooManyExamples,
    counted,
    offsets_of,
    tokenize_task,
    tokenized_chunks,
)

_META = "meta.json"


def tokenized(
    task: seqio.Task,
    *,
    split: str,
    lengths: Mapping[str, int],
    use_cached: bool = False,
    max_examples: int | None = None,
) -> TokenizedTask:
    """A split's token ids, mapped from the cache where they are known; raises as `tokenized_chunks` does."""
    settings = {"split": split, "lengths": lengths, "use_cached": use_cached}
    folder = locations.cache_dir()
    key = content_key(task, **settings) if folder is not None else None
    if key is None:
        return tokenize_task(task, **settings, max_examples=max_examples)
    entry = folder / f"{re.sub('[^A-Za-z0-9_.-]', '_', task.name)}-{split}-{key[:32]}"
    # Several processes that start together each make the entry: none waits for another, and one of them keeps it.
    found = _read(entry, task.name, lengths, key)
    if found is None:
        found = _write(entry, task, key, settings, max_examples)
    if max_examples is not None and found.num_examples > max_examples:
        raise TooManyExamples(f"{task.name}/{split} has {found.num_examples} examples.")
    return found


def _write(
    entry: Path, task: seqio.Task, key: str, settings: Mapping[str, object], max_examples: int | None
) -> TokenizedTask:
    """Tokenises a split to disk; into memory, with a warning, where the disk takes no more."""
    temporary = entry.with_name(f".{entry.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}")
    chunks = tokenized_chunks(task, **settings, max_examples=max_examples)
    counter = FitCounter(task, settings["lengths"])
    try:
        temporary.mkdir(parents=True)
        counts = _write_chunks(temporary, counted(chunks, counter), settings["lengths"])
        meta = {**counts, "fit": counter.fit.as_dict()}
        (temporary / _META).write_text(json.dumps(meta) + "\n", encoding="utf-8")
        _put(temporary, entry, lambda: _read(entry, task.name, settings["lengths"], key) is not None)
        written = _read(entry, task.name, settings["lengths"], key)
    except OSError as error:
        said = f"Token ids are not kept: {error}. Set STEPDISTILL_CACHE_DIR to another folder."
        print(visible(said), file=sys.stderr)
        written = None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return written or tokenize_task(task, **settings, max_examples=max_examples)


def _put(temporary: Path, entry: Path, is_whole: Callable[[], bool]) -> None:
    """Gives a folder its final name, unless another process was quicker: what it has written is the same."""
    if is_whole():
        return
    shutil.rmtree(entry, ignore_errors=True)
    try:
        temporary.rename(entry)
    except OSError:
        if not is_whole():
            raise


def _write_chunks(folder: Path, chunks: Iterable[Chunk], lengths: Mapping[str, int]) -> dict[str, object]:
    """Returns how many examples and tokens were written."""
    num_examples, num_tokens = 0, dict.fromkeys(lengths, 0)
    ids: list[np.ndarray] = []
    files = {
        (name, kind): (folder / f"{name}.{kind}").open("wb")
        for name in lengths
        for kind in ("tokens", "lengths")
    }
    try:
        for chunk in chunks:
            for name in lengths:
                chunk.tokens[name].astype("<i4").tofile(files[name, "tokens"])
                chunk.lengths[name].astype("<i4").tofile(files[name, "lengths"])
                num_tokens[name] += len(chunk.tokens[name])
            num_examples += len(chunk.lengths[name])
            ids += [chunk.ids] if chunk.ids is not None else []
    finally:
        for file in files.values():
            file.close()
    if ids:
        np.save(folder / "ids.npy", np.concatenate(ids))
    return {"num_examples": num_examples, "num_tokens": num_tokens, "ids": bool(ids)}


def _read(entry: Path, name: str, lengths: Mapping[str, int], key: str) -> TokenizedTask | None:
    """An entry of the cache; None if it is not there or not whole."""
    try:
        meta = json.loads((entry / _META).read_text(encoding="utf-8"))
        offsets, tokens = {}, {}
        for feature in lengths:
            sizes = np.fromfile(entry / f"{feature}.lengths", "<i4")
            offsets[feature] = offsets_of(sizes)
            tokens[feature] = _mapped(entry / f"{feature}.tokens", meta["num_tokens"][feature])
            if len(sizes) != meta["num_examples"] or offsets[feature][-1] != meta["num_tokens"][feature]:
                return None
        ids = np.load(entry / "ids.npy", mmap_mode="r") if meta["ids"] else None
        fit = task_fit(meta["fit"])
    except (OSError, ValueError, KeyError, TypeError):  # or it is of a version that kept less
        return None
    return TokenizedTask(name=name, tokens=tokens, offsets=offsets, ids=ids, key=key, fit=fit)


def _mapped(path: Path, size: int) -> np.ndarray:
    # An empty file cannot be mapped.
    return np.memmap(path, "<i4", mode="r", shape=(size,)) if size else np.zeros(0, np.int32)
