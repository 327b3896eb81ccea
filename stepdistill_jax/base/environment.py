"""Environment variables that are set for a while."""

import contextlib
import os
from collections.abc import Iterator


@contextlib.contextmanager
def set_for_a_while(**values: str | os.PathLike[str] | None) -> Iterator[None]:
    """Within it these variables have these values, afterwards what they had before, if anything; None leaves one alone."""
    changed = {name: str(value) for name, value in values.items() if value is not None}
    before = {name: os.environ.get(name) for name in changed}
    os.environ.update(changed)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
