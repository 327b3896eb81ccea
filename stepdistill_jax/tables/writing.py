"""Rows to csv, tsv and JSON lines, each readable by `open_table` again."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from stepdistill_jax.tables.errors import TableError
from stepdistill_jax.tables.rows import Row
from stepdistill_jax.tables.values import cell_text, json_text

_FORMATS = {".csv": "csv", ".tsv": "tsv", ".tab": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl"}


class RowWriter:
    """Writes rows to a text file that is open, opened with newline='' so that a cell's line ends stay as they are."""

    def __init__(
        self, file: TextIO, columns: Sequence[str], *, format: str, delimiter: str | None = None
    ) -> None:
        """Args:
        file: to write to.
        columns: in order; each row is to have them all.
        format: 'csv', 'tsv' or 'jsonl', as `format_of` gives it.
        delimiter: of csv; None is a comma.
        """
        self._file, self._columns, self._format = file, tuple(columns), format
        self._delimiter = "\t" if format == "tsv" else delimiter or ","

    @staticmethod
    def format_of(path: Path) -> str:
        """The format that a file's name asks for.

        Raises:
          TableError: names those that are written.
        """
        if path.suffix.lower() not in _FORMATS:
            raise TableError(f"--output {path}: written are {', '.join(_FORMATS)}; name such a file.")
        return _FORMATS[path.suffix.lower()]

    def write_header(self) -> None:
        """The columns' names; JSON lines have none."""
        if self._format != "jsonl":
            self._write_cells(self._columns)

    def write(self, values: Mapping[str, Any]) -> None:
        """A row. In csv and tsv null is an empty cell, and a list or an object is its JSON text."""
        if self._format == "jsonl":
            self._file.write(json_text({name: values[name] for name in self._columns}) + "\n")
        else:
            self._write_cells([cell_text(values[name]) for name in self._columns])

    def _write_cells(self, cells: Sequence[str]) -> None:
        # Not by csv.writer: before Python 3.13 it leaves a "\r" within a cell unquoted.
        line = self._delimiter.join(self._quoted(cell) for cell in cells)
        self._file.write((line or '""') + "\n")  # a line without anything would be no row

    def _quoted(self, cell: str) -> str:
        if any(mark in cell for mark in (self._delimiter, '"', "\n", "\r")):
            return '"' + cell.replace('"', '""') + '"'
        return cell


def check_cells(row: Row) -> None:
    """Checks that csv and tsv can hold a row.

    Raises:
      TableError: names the row, and the column that they can't.
    """
    for name, value in row.values.items():
        try:
            cell_text(name)
            cell_text(value)
        except ValueError as error:
            raise TableError(
                f"{row.place}: {name!r} is {error}, which csv and tsv can't hold; mend it, or let --output be a .jsonl file."
            ) from None
