"""Rows of a table to texts, and one message for all rows that cannot be used."""

import ast
import contextlib
import dataclasses
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from stepdistill_jax.base.visible import is_blank
from stepdistill_jax.datasets.dataset import SPLITS
from stepdistill_jax.datasets.tabular.settings import TableSettings
from stepdistill_jax.tables import Row, Table, TableError, open_table
from stepdistill_jax.tables.delimited import RAGGED
from stepdistill_jax.tables.inputs import cell_of

# What a column of splits may say.
SPLIT_WORDS = {
    **{word: "train" for word in ("train", "training")},
    **{word: "validation" for word in ("validation", "valid", "val", "dev")},
    **{word: "test" for word in ("test", "testing")},
}
_SHOWN = 5  # lines in a message
_LINE_END = re.compile("\r\n|\r|\n")
_NO_LABEL = "without a label"


@dataclasses.dataclass(frozen=True)
class TextRow:
    """What is taken of a row.

    Attributes:
      line: see `tables.Row`.
      number: of the row in its file, from 0.
      kind: of the label's value: 'str', or what JSON and parquet have besides.
      split: as its column says; None without such a column.
    """

    path: Path
    line: int
    number: int
    inputs: str
    label: str
    kind: str
    id: str | None = None
    rationale: str = ""
    split: str | None = None

    @property
    def place(self) -> str:
        return f"{self.path}:{self.line}"


@dataclasses.dataclass(frozen=True)
class ReadTable:
    """A table that was read.

    Attributes:
      rows: that are used.
      left_out: lines of those that are not, by the reason.
      doubtful: lines of those whose quoted cells hold what look like rows.
    """

    table: Table
    rows: list[TextRow]
    left_out: Mapping[str, list[int]]
    doubtful: list[int]


class Problems:
    """Rows that cannot be used, gathered so that all of them are named at once."""

    def __init__(self) -> None:
        self._lines: dict[str, list[int]] = {}

    def add(self, reason: str, line: int) -> None:
        self._lines.setdefault(reason, []).append(line)

    def check(self, path: Path) -> None:
        """Refuses the table if there was any.

        Raises:
          TableError: names the lines, the reasons, and the mend where there is a flag for it.
        """
        if not self._lines:
            return
        told = "; ".join(f"{lines_text(lines)}: {reason}" for reason, lines in self._lines.items())
        mend = "mend the file"
        if any(_NO_LABEL in reason for reason in self._lines):
            mend += ", or leave rows without a label out by --drop_unlabelled"
        first = min(min(lines) for lines in self._lines.values())
        raise TableError(f"{path}:{first}: rows that cannot be used: {told}. Nothing was written; {mend}.")


def lines_text(lines: Iterable[int]) -> str:
    """'lines 3, 6', with at most five of them."""
    lines = list(lines)
    shown = ", ".join(map(str, lines[:_SHOWN]))
    more = f" and {len(lines) - _SHOWN:,} more" if len(lines) > _SHOWN else ""
    return f"line{'s' * (len(lines) > 1)} {shown}{more}"


def places_text(rows: Sequence[TextRow]) -> str:
    """As `lines_text`, with the file's name where the rows are of several."""
    if len({row.path for row in rows}) == 1:
        return lines_text(row.line for row in rows)
    more = f" and {len(rows) - _SHOWN:,} more" if len(rows) > _SHOWN else ""
    return ", ".join(row.place for row in rows[:_SHOWN]) + more


def read_table(path: Path, settings: TableSettings, *, flag: str = "") -> ReadTable:
    """All rows of a file.

    Args:
      flag: that named the file, for messages.

    Raises:
      TableError: names the column that is not there, the lines that cannot be used, or the file that has no rows.
    """
    left_out: dict[str, list[int]] = {}

    def on_ragged(line: int, cells: int) -> None:
        del cells
        left_out.setdefault(RAGGED, []).append(line)

    try:
        table = open_table(
            path,
            encoding=settings.encoding,
            delimiter=settings.delimiter,
            on_ragged=on_ragged if settings.skip_ragged else None,
        )
        table.check_columns(_wanted(settings))
        rows, doubtful = _texts(table, settings, left_out)
    except TableError as error:
        if error.reason == RAGGED:
            raise TableError(f"{error} --skip_ragged leaves such rows out.") from None
        raise
    if not rows:
        why = "no rows, only a header" if table.delimiter else "no rows"
        if left_out:
            why = "no row that can be used: all were left out, " + ", ".join(left_out)
        raise TableError(f"{flag + ' ' if flag else ''}{path}: {why}; there is nothing to learn from.")
    return ReadTable(table, rows, left_out, doubtful)


def _wanted(settings: TableSettings) -> dict[str, str]:
    """Column -> the flag that names it."""
    wanted = {name: f"--inputs {settings.inputs!r}" for name in settings.template.columns}
    for flag in ("label", "id", "rationale", "split"):
        if (name := getattr(settings, flag)) is not None:
            wanted[name] = f"--{flag} {name}"
    return wanted


def _texts(
    table: Table, settings: TableSettings, left_out: dict[str, list[int]]
) -> tuple[list[TextRow], list[int]]:
    """(rows that are used, lines of those whose quoted cells hold what look like rows)."""
    rows, problems, ids, within = [], Problems(), {}, {}
    for number, row in enumerate(table):
        try:
            text = _text_row(row, number, settings)
        except TableError as error:
            if error.reason.endswith(_NO_LABEL) and settings.drop_unlabelled:
                left_out.setdefault(_NO_LABEL, []).append(row.line)
            else:
                problems.add(error.reason, row.line)
            continue
        if text.id is not None and ids.setdefault(text.id, row.line) != row.line:
            problems.add(f"the id {text.id!r} stands on line {ids[text.id]}, too", row.line)
        rows.append(text)
        if table.delimiter is not None and (found := _labels_within(row, table, settings.label)):
            within[row.line] = found
    problems.check(table.path)
    labels = {row.label for row in rows}
    return rows, [line for line, found in within.items() if found & labels]


def _labels_within(row: Row, table: Table, label: str) -> set[str]:
    """The labels of what would be rows if the quotes of a row's cells were none.

    A quote that is not closed goes on to the next one, rows below; all of these become a cell, and are lost.
    """
    cells, place = [*row.values.values()], table.columns.index(label)
    found = set()
    for number, cell in enumerate(cells):
        lines = [line.split(table.delimiter) for line in _LINE_END.split(cell)]
        whole = [[*cells[:number], *lines[0]], *lines[1:]][:-1] if len(lines) > 1 else []
        found |= {line[place] for line in whole if len(line) == len(cells)}
    return found


def _text_row(row: Row, number: int, settings: TableSettings) -> TextRow:
    """A row's texts.

    Raises:
      TableError: whose reason says what is wrong with it.
    """
    label = _label(row, settings.label, may_be_list=settings.free)
    inputs = settings.template.text(row)
    if not inputs:
        raise _unusable(row, f"the inputs ({', '.join(map(repr, settings.template.columns))}) are empty")
    return TextRow(
        path=row.path,
        line=row.line,
        number=number,
        inputs=inputs,
        label=label,
        kind=_kind(row.values[settings.label]),
        id=None if settings.id is None else _filled(row, settings.id),
        rationale="" if settings.rationale is None else _optional(row, settings.rationale),
        split=None if settings.split is None else _split(row, settings.split),
    )


def _label(row: Row, column: str, *, may_be_list: bool) -> str:
    value = row.values.get(column, "")
    if value is None or (isinstance(value, str) and is_blank(value)):
        raise _unusable(row, _NO_LABEL if column in row.values else f"no {column!r}, so {_NO_LABEL}")
    label = cell_of(row, column)
    if not may_be_list and _is_list(label):
        raise _unusable(
            row, f"the label {label!r:.40} is a list; a row has one label (--free takes it as text)"
        )
    return label


def _is_list(label: str) -> bool:
    """Whether it is a list as JSON or Python writes it."""
    if not (label.startswith("[") and label.endswith("]")):
        return False
    for read in (json.loads, ast.literal_eval):
        with contextlib.suppress(ValueError, SyntaxError, RecursionError, MemoryError):
            return isinstance(read(label), list)
    return False


def _kind(value: object) -> str:
    return "float" if isinstance(value, float) else type(value).__name__


def _filled(row: Row, column: str) -> str:
    text = cell_of(row, column)
    if is_blank(text):
        raise _unusable(row, f"{column!r} is empty")
    return text


def _optional(row: Row, column: str) -> str:
    """'' where the cell is empty, null or not there."""
    return "" if row.values.get(column) is None else cell_of(row, column).strip()


def _split(row: Row, column: str) -> str:
    said = cell_of(row, column)
    split = SPLIT_WORDS.get(said.strip().lower())
    if split is None:
        raise _unusable(row, f"{column!r} is {said!r:.40}, none of {', '.join(SPLITS)}")
    return split


def _unusable(row: Row, reason: str) -> TableError:
    return TableError(f"{row.place}: {reason}.", reason=reason)
