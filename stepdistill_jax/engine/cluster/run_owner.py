"""Several processes of one run are one owner of its folder: process 0 takes the lock, the others learn what came of it."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import jax

from stepdistill_jax.base.folder_lock import FolderInUse, FolderLock
from stepdistill_jax.base.messages import say_once
from stepdistill_jax.engine.cluster import exchange

LOCK = "owner.json"
_POLL_SECONDS = 5.0  # each look is an exchange between all processes
_TAKEN, _WAITS, _REFUSED, _FAILED = "twrf"


@contextlib.contextmanager
def owned(model_dir: Path) -> Iterator[FolderLock]:
    """Within it this run owns MODEL_DIR, by MODEL_DIR/owner.json; every process of the run must come here.

    Raises:
      FolderInUse: in all processes, if another run does.
      OSError: in all processes, if the lock can't be written.
      ValueError: if `model_dir` is a file.
    """
    if model_dir.exists() and not model_dir.is_dir():
        raise ValueError(f"model_dir='{model_dir}' is a file; name a folder.")
    lock = FolderLock(model_dir / LOCK, f"MODEL_DIR {model_dir}")
    if jax.process_count() == 1:
        with lock.held():
            yield lock
        return
    while (outcome := exchange.from_process_0(_attempt(lock)))[0] == _WAITS:
        if jax.process_index() == 0:
            say_once(outcome[1:])
        time.sleep(_POLL_SECONDS)
    if outcome[0] != _TAKEN:
        raise (FolderInUse if outcome[0] == _REFUSED else OSError)(outcome[1:])
    try:
        yield lock
    finally:
        if jax.process_index() == 0:
            lock.release()


def _attempt(lock: FolderLock) -> str:
    """In process 0: how it went, a letter, and what is to be said of it."""
    if jax.process_index() != 0:
        return ""
    try:
        waits_for = lock.attempt()
    except FolderInUse as error:
        return f"{_REFUSED}{error}"
    except OSError as error:
        return f"{_FAILED}{error}"
    return _TAKEN if waits_for is None else f"{_WAITS}{waits_for}"
