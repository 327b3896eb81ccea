"""The command of this process, or the whole one that it stands for, as run.json keeps it."""

import contextlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

_stands_for: list[list[str]] = []


def words() -> list[str]:
    """The command, its program by name."""
    return list(_stands_for[-1]) if _stands_for else [Path(sys.argv[0]).name, *sys.argv[1:]]


@contextlib.contextmanager
def standing_for(command: Sequence[str]) -> Iterator[None]:
    """Within it this process's command is another, which says all that it leaves to us."""
    _stands_for.append(list(command))
    try:
        yield
    finally:
        _stands_for.pop()
