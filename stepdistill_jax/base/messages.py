"""What is said to whoever runs a program: the nearest name in an error, and lines that come once."""

import difflib
import sys
from collections.abc import Iterable

from stepdistill_jax.base.visible import visible, visible_line

# After Ctrl-C, where a command has nothing of its own to say. It promises nothing that a command can't keep.
INTERRUPTED = "interrupted; files are whole or not there, and the same command can be started again."

_said: set[str] = set()


def nearest(name: str, known: Iterable[str]) -> str:
    """ "; nearest 'that'", for an error about a name that there is not; nothing where nothing is known."""
    near = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.0)
    return f"; nearest '{near[0]}'" if near else ""


def unexpected(error: Exception) -> str:
    """One line for an error that no check of ours has foreseen; says how to see where it came from."""
    text = visible_line(error)
    return f"{type(error).__name__}{f': {text}' if text else ''} (STEPDISTILL_DEBUG=1 shows where)"


def say_once(message: str, *, about: str = "") -> None:
    """Writes a line on standard error, which is not for logs that are kept, and does not repeat it in this process.

    Where it is said what it is `about`, no other line about that follows either.
    """
    if (about or message) not in _said:
        _said.add(about or message)
        print(visible(message), file=sys.stderr, flush=True)
