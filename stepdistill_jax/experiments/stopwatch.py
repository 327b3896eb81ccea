"""The time that processes have worked on a run, added up over interruptions."""

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from stepdistill_jax.base.whole_files import write_atomically

_PERIOD_SECONDS = 5.0


@contextlib.contextmanager
def timed(path: Path) -> Iterator[None]:
    """Within it seconds are counted into a file, every few seconds, so that a kill loses few.

    The file is a list of JSON: the seconds of each process so far. Whoever waits for its turn is not yet within.
    """
    earlier = _sessions(path)
    started = time.monotonic()
    done = threading.Event()

    def write() -> None:
        write_atomically(path, json.dumps([*earlier, round(time.monotonic() - started, 2)]) + "\n")

    def keep_writing() -> None:
        while not done.wait(_PERIOD_SECONDS):
            write()

    write()
    writer = threading.Thread(target=keep_writing, daemon=True)
    writer.start()
    try:
        yield
    finally:
        done.set()
        writer.join()
        write()


def total_seconds(path: Path) -> float:
    """Of all processes together, to about `_PERIOD_SECONDS` a kill."""
    return round(sum(_sessions(path)), 2)


def _sessions(path: Path) -> list[float]:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
