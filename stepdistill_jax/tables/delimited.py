"""Rows of csv, tsv and txt files: cells as they are written, the delimiter found by what divides all rows alike."""

import csv
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TextIO

from stepdistill_jax.tables.errors import TableError, check_names
from stepdistill_jax.tables.rows import Row
from stepdistill_jax.tables.text_files import open_text

DELIMITERS = (",", ";", "\t", "|")
_LOOKED_AT = 200  # rows, for the delimiter
_LONGEST_CELL = 1 << 24  # characters: a quote that is not closed must not fill the memory
_SHOWN = 5  # rows in a message

RAGGED = "another number of cells than the header"

# A row with another number of cells than the header: its line, and that number.
OnRagged = Callable[[int, int], None]


class Delimited:
    """A delimited file: its header is read, its rows are read at each iteration."""

    def __init__(
        self, path: Path, encoding: str, *, delimiter: str | None, on_ragged: OnRagged | None = None
    ) -> None:
        """Finds the delimiter, unless it is given or the first line says it ('sep=;').

        Args:
          on_ragged: is told each row with too many or too few cells, which is then left out; None makes them errors.

        Raises:
          TableError: for a file without a header, or one that names two columns alike.
        """
        self._path, self._encoding, self._on_ragged = path, encoding, on_ragged
        said = self._said_delimiter()
        self._lines_before = 0 if said is None else 1
        self.delimiter = delimiter or said or self._find_delimiter()
        header = next(self._cells(self.delimiter), None)
        if header is None:
            raise TableError(f"{path}: empty; its first line is to name the columns.")
        self.columns = tuple(header[1])
        check_names(path, self.columns, f"the header, divided by {self.delimiter!r},")

    def __iter__(self) -> Iterator[Row]:
        blank = [""] if len(self.columns) == 1 else None
        cells = itertools.islice(self._cells(self.delimiter, blank), 1, None)
        for line, row in cells:
            if len(row) == len(self.columns):
                self._check_no_header(line, row)
                yield Row(line, dict(zip(self.columns, row, strict=True)), self._path)
            elif self._on_ragged is not None:
                self._on_ragged(line, len(row))
            else:
                others = ((at, len(more)) for at, more in cells if len(more) != len(self.columns))
                raise self._ragged([(line, len(row)), *itertools.islice(others, _SHOWN)])

    def _check_no_header(self, line: int, row: Sequence[str]) -> None:
        """Files that were put behind one another have a header each; a cell of one column may well be its name."""
        if len(row) > 1 and [row[0].removeprefix("\ufeff"), *row[1:]] == list(self.columns):
            raise TableError(
                f"{self._path}:{line}: the header stands here again, as where files are put behind one another; take this line out."
            )

    def _ragged(self, found: Sequence[tuple[int, int]]) -> TableError:
        shown = ", ".join(f"line {line} has {count}" for line, count in found[:_SHOWN])
        more = ", and there are more" if len(found) > _SHOWN else ""
        return TableError(
            f"{self._path}:{found[0][0]}: the header names {len(self.columns)} columns, but {shown} cells{more}; put a cell "
            f"that holds {self.delimiter!r} into quotes.",
            reason=RAGGED,
        )

    def _said_delimiter(self) -> str | None:
        with open_text(self._path, self._encoding, newline="") as text:
            said = re.fullmatch(r"sep=(.)[\r\n]*", text.readline(16))
        return said and said[1]

    def _find_delimiter(self) -> str:
        """What divides the most rows as it divides the header; of equals what divides into more columns."""
        return max(DELIMITERS, key=self._agreement)

    def _agreement(self, delimiter: str) -> tuple[float, int]:
        """(share of rows with as many cells as the header, that number)."""
        counts = []
        try:
            for _, cells in itertools.islice(self._cells(delimiter), _LOOKED_AT):
                counts.append(len(cells))
        except TableError:
            counts.append(0)  # quotes that make no sense by this delimiter
        if not counts or counts[0] < 2:
            return -1.0, 0
        return counts[1:].count(counts[0]) / max(1, len(counts) - 1), counts[0]

    def _cells(self, delimiter: str, blank: list[str] | None = None) -> Iterator[tuple[int, list[str]]]:
        """(line, cells) of every row, the header's too.

        Args:
          blank: cells of a blank line behind the header; None where it is no row.
        """
        with open_text(self._path, self._encoding, newline="") as text:
            for _ in range(self._lines_before):
                text.readline()
            has_header = False
            for line, cells in _parsed(self._path, text, delimiter, self._lines_before):
                if cells or (has_header and blank):
                    has_header = True
                    yield line, cells or blank


def _parsed(path: Path, text: TextIO, delimiter: str, before: int) -> Iterator[tuple[int, list[str]]]:
    """(line, cells) of every row; a blank line has none."""
    csv.field_size_limit(max(_LONGEST_CELL, csv.field_size_limit()))
    reader = csv.reader(_without_nul(path, text, before), delimiter=delimiter, strict=True)
    while True:
        line = before + reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise TableError(_told(path, line, before + reader.line_num, str(error))) from None
        if cells is None:
            return
        yield line, cells


def _without_nul(path: Path, lines: Iterable[str], before: int) -> Iterator[str]:
    for number, line in enumerate(lines, start=before + 1):
        if "\0" in line:
            raise TableError(
                f"{path}:{number}: a NUL byte, character {line.index(chr(0)) + 1} of the line; the file is damaged, or no text."
            )
        yield line


def _told(path: Path, line: int, last: int, error: str) -> str:
    """A message for the csv module's error, met on line `last` of a row that begins on `line`."""
    if "end of data" in error:
        return f"{path}:{line}: a quote is opened here and not closed to the end of the file (line {last}); close it."
    if "limit" in error:
        return f"{path}:{line}: a cell of more than {_LONGEST_CELL:,} characters; a quote is opened there and not closed."
    return (
        f'{path}:{line}: a cell goes on behind its closing quote (line {last}); write "" for a quote within a cell, or close '
        f"the one that is open."
    )
