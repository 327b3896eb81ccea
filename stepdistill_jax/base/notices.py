"""Lines for whoever runs a program, on standard error; not for logs that are kept."""

import sys

_said: set[str] = set()


def say_once(message: str) -> None:
    """Writes a line, and does not repeat it in this process."""
    if message not in _said:
        _said.add(message)
        print(message, file=sys.stderr, flush=True)
