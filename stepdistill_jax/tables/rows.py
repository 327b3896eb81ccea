"""A row of a table."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Row:
    """A row, and where it stands.

    Attributes:
      line: the line that it begins on, from 1; of a parquet file, which has no lines, its number, from 1.
      values: column -> a text (delimited files), or what JSON or parquet says: a number, true, null, a list, …
      path: of the table.
    """

    line: int
    values: dict[str, Any]
    path: Path | None = None

    @property
    def place(self) -> str:
        """'tickets.csv:12', for messages."""
        return f"line {self.line}" if self.path is None else f"{self.path}:{self.line}"
