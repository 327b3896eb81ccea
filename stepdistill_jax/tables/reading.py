"""A table of any kind that is read here."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from stepdistill_jax.base.visible import look, spelled
from stepdistill_jax.tables.delimited import Delimited, OnRagged
from stepdistill_jax.tables.errors import TableError, names_text
from stepdistill_jax.tables.json_rows import JsonRows
from stepdistill_jax.tables.parquet import Parquet
from stepdistill_jax.tables.rows import Row
from stepdistill_jax.tables.text_files import find_encoding, reading_errors

# A file's ending, without '.gz' -> its kind.
_KINDS = {
    ".csv": "delimited",
    ".tsv": "delimited",
    ".tab": "delimited",
    ".txt": "delimited",
    ".jsonl": "json",
    ".ndjson": "json",
    ".json": "json",
    ".parquet": "parquet",
}


@dataclass(frozen=True)
class Table:
    """A table that can be read any number of times; iterating gives its rows in order, in memory that does not grow.

    Attributes:
      path: of the file.
      format: 'csv', 'tsv', 'jsonl', 'json' (an array, which is read whole) or 'parquet'.
      columns: in order; of JSON files those of the first object.
      delimiter: of csv and tsv, else None.
      encoding: 'utf-8', 'utf-16', 'cp1252', …; None of parquet.
    """

    path: Path
    format: str
    columns: tuple[str, ...]
    delimiter: str | None
    encoding: str | None
    _rows: Delimited | JsonRows | Parquet

    def __iter__(self) -> Iterator[Row]:
        """The rows.

        Raises:
          TableError: names file and line of what cannot be read.
        """
        return iter(self._rows)

    def check_columns(self, names: dict[str, str]) -> None:
        """Checks that the columns are there that flags name: {'queue': '--label queue'}.

        Raises:
          TableError: names the flag, and the columns that there are.
        """
        for name, flag in names.items():
            if name not in self.columns and not self._has_later(name):
                said = "" if self.delimiter is None else f" (divided by {self.delimiter!r})"
                alike = next((column for column in self.columns if look(column) == look(name)), None)
                hint = (
                    "" if alike is None else f" {spelled(alike)} is spelled otherwise than {spelled(name)}."
                )
                raise TableError(
                    f"{flag}: {self.path} has no column {spelled(name)}; it has {names_text(self.columns)}{said}."
                    + (hint or (" Is its first line a header?" if self.delimiter else ""))
                )

    def _has_later(self, name: str) -> bool:
        """Whether a later object of a JSON file has what the first one lacks."""
        return self.format in ("json", "jsonl") and any(name in row.values for row in self)


def open_table(
    path: str | os.PathLike[str],
    *,
    encoding: str | None = None,
    delimiter: str | None = None,
    on_ragged: OnRagged | None = None,
) -> Table:
    """The table of a .csv, .tsv, .txt, .jsonl, .json or .parquet file, all but the last also as .gz.

    Args:
      encoding: of text; None reads UTF-8, or what a Unicode mark says.
      delimiter: one character, or 'tab'; None finds it among , ; | and tab.
      on_ragged: is called with (line, number of cells) of each row of a delimited file that has not as many cells as the
        header; such rows are then left out. None makes them errors.

    Raises:
      FileNotFoundError: if there is no such file.
      TableError: names the file and what is wrong with it: its kind, encoding, header, or first row.
    """
    path = Path(path)
    kind = _KINDS.get(_ending(path))
    if path.exists() and not path.is_file():
        what = (
            "is a folder; name a file"
            if path.is_dir()
            else "is no file, and can be read once alone; save it as a file"
        )
        raise TableError(f"{path} {what}.")
    if kind is None:
        raise TableError(
            f"{path}: unknown kind of table; use {', '.join(_KINDS)}; all but the last also with .gz."
        )
    if kind == "parquet":
        with reading_errors(path):
            rows = Parquet(path)
        return Table(path, "parquet", rows.columns, None, None, rows)
    found = find_encoding(path, encoding)
    if kind == "json":
        rows = JsonRows(path, found)
        return Table(path, "json" if rows.is_array else "jsonl", rows.columns, None, _shown(found), rows)
    rows = Delimited(path, found, delimiter=_one_character(delimiter), on_ragged=on_ragged)
    name = "tsv" if rows.delimiter == "\t" else "csv"
    return Table(path, name, rows.columns, rows.delimiter, _shown(found), rows)


def _shown(encoding: str) -> str:
    return encoding.removesuffix("-sig")


def looks_like_table(name: str) -> bool:
    """Whether a name is that of a file which `open_table` reads, there or not."""
    return _ending(Path(name)) in _KINDS


def _ending(path: Path) -> str:
    return Path(path.name.lower().removesuffix(".gz")).suffix


def _one_character(delimiter: str | None) -> str | None:
    if delimiter in ("tab", "\\t"):
        return "\t"
    if delimiter is not None and (len(delimiter) != 1 or delimiter in '"\r\n'):
        raise TableError(f"--delimiter {delimiter!r}: give one character, such as ';', or tab.")
    return delimiter
