"""What is said to whoever runs a program: the nearest name in an error, and lines that come once."""

import difflib
import sys
from collections.abc import Iterable

_said: set[str] = set()


def nearest(name: str, known: Iterable[str]) -> str:
    """ "; nearest 'that'", for an error about a name that there is not; nothing where nothing is known."""
    near = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.0)
    return f"; nearest '{near[0]}'" if near else ""


def say_once(message: str) -> None:
    """Writes a line on standard error, which is not for logs that are kept, and does not repeat it in this process."""
    if message not in _said:
        _said.add(message)
        print(message, file=sys.stderr, flush=True)
