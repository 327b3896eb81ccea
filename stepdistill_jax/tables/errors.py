"""What is wrong with a table."""

from collections.abc import Sequence
from pathlib import Path

from stepdistill_jax.base.visible import shortened, spelled

_SHOWN_NAMES = 20  # in a message
_SHOWN_CHARACTERS = 80  # of each


class TableError(ValueError):
    """One line: the file, the line, what is wrong, and the mend.

    Attributes:
      reason: the same without file and line, so that rows with one fault can be told together; '' where it is none of a row.
    """

    def __init__(self, message: str, *, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason


def check_names(path: Path, columns: Sequence[str], header: str) -> None:
    """Checks that columns are named apart.

    Args:
      header: what names them, for the message.

    Raises:
      TableError: names the first that are not.
    """
    twice = sorted({name for name in columns if columns.count(name) > 1})
    if twice:
        named = "no name" if not twice[0].strip() else f"the name {twice[0]!r}"
        raise TableError(
            f"{path}: {columns.count(twice[0])} columns have {named}; {header} has {names_text(columns)}. Name them apart."
        )


def names_text(names: Sequence[str]) -> str:
    """ "'id', 'text'", with at most twenty of them, and the begin of long ones."""
    more = f" and {len(names) - _SHOWN_NAMES:,} more" if len(names) > _SHOWN_NAMES else ""
    return ", ".join(spelled(shortened(name, _SHOWN_CHARACTERS)) for name in names[:_SHOWN_NAMES]) + more
