"""Where the answers of a job lie, one file a worker, and how the workers' files become one.

DATA/<dataset>/answers/<teacher>/answers.sqlite                   a job without shards, and what a merge makes
                                 answers-00001-of-00004.sqlite    worker 1 of 4
"""

import heapq
import os
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from stepdistill_jax import datasets
from stepdistill_jax.base.visible import visible_line
from stepdistill_jax.teacher.asking import damaged_store
from stepdistill_jax.teacher.asking.answer_store import AnswerStore, StoreDamaged
from stepdistill_jax.teacher.asking.job_settings import Shard

MAIN = "answers.sqlite"


def answers_folder(name: str, teacher: str, data_dir: str | os.PathLike[str] | None = None) -> Path:
    """DATA/<name>/answers/<teacher>."""
    return datasets.data_dir(data_dir) / name / "answers" / teacher


def store_path(folder: Path, shard: Shard | None) -> Path:
    """The file that a worker writes."""
    return folder / (MAIN if shard is None else f"answers-{shard.index:05d}-of-{shard.count:05d}.sqlite")


def open_store(path: Path) -> AnswerStore:
    """The worker's store, checked; of a damaged one all that can be read is taken over into a new one, and that is said.

    Raises:
      ValueError: see AnswerStore, and `damaged_store.salvage`.
    """
    store = None
    try:
        store = AnswerStore(path)
        store.check()
        return store
    except StoreDamaged:
        if store is not None:
            store.close()
    print(visible_line(damaged_store.salvage(path)), file=sys.stderr, flush=True)
    return AnswerStore(path)


def merge_shards(folder: Path, num_shards: int, into: AnswerStore, *, asked: Mapping[str, str]) -> None:
    """Takes over the answers of all shards; doing it again changes nothing.

    Args:
      asked: split -> identity of the examples that the answers should be to.

    Raises:
      ValueError: if a shard's file is missing or in use, was asked of other examples, or two answered the same request.
    """
    paths = [store_path(folder, Shard(index, num_shards)) for index in range(num_shards)]
    for index, path in enumerate(paths):
        if not path.exists():
            raise ValueError(
                f"--merge {num_shards}: no {path}; run the job with --shard {index}/{num_shards}."
            )
    _refuse_doubles(paths)
    for path in paths:
        with AnswerStore(path, read_only=True) as store:
            _refuse_other_examples(store, asked)
            into.copy_from(store)
    into.note_asked(asked)


def _refuse_other_examples(store: AnswerStore, asked: Mapping[str, str]) -> None:
    known = store.asked()
    for split, sha256 in asked.items() if known else ():
        if (split, sha256) not in known:
            theirs = ", ".join(sorted(each[:12] for name, each in known if name == split)) or "none"
            raise ValueError(
                f"{store.path} was asked of other examples of {split} ({theirs}) than there are now ({sha256[:12]}); run that "
                "shard again, answers whose prompts are the same are reused, then merge."
            )


def _refuse_doubles(paths: Sequence[Path]) -> None:
    stores = [AnswerStore(path, read_only=True) for path in paths]
    try:
        streams = [((*found, store.path.name) for found in store.answered()) for store in stores]
        last, last_file = "", ""
        for key, example_id, file in heapq.merge(*streams):
            if key == last:
                raise ValueError(
                    f"{example_id} is answered in both {last_file} and {file} of {paths[0].parent}; two workers had "
                    f"the same --shard or other --shard counts. Remove one of the files and run its shard again."
                )
            last, last_file = key, file
    finally:
        for store in stores:
            store.close()


def all_counters(folder: Path, own: AnswerStore) -> Counter[str]:
    """What was asked, answered and retried by every job that ever wrote into the folder."""
    total = own.counters()
    for path in sorted(folder.glob("answers*.sqlite")):
        if path != own.path:
            with AnswerStore(path, read_only=True) as store:
                total.update(store.counters())
    return total
