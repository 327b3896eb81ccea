"""Rows of JSON files: an object a line, or an array of objects."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stepdistill_jax.tables.errors import TableError
from stepdistill_jax.tables.rows import Row
from stepdistill_jax.tables.text_files import open_text
from stepdistill_jax.tables.values import WrittenFloat

_BLANKS = " \t\r\n"
_MOST_DIGITS = 4000  # of an integer


class JsonRows:
    """A file of JSON objects. `columns` are those of the first one; others may lack some, or have more."""

    delimiter = None

    def __init__(self, path: Path, encoding: str) -> None:
        """Reads the first object.

        Raises:
          TableError: if there is none.
        """
        self._path, self._encoding = path, encoding
        with open_text(path, encoding, newline="\n") as text:
            begin = next((line.lstrip() for line in text if line.strip()), "")
        self.is_array = begin.startswith("[")
        first = next(iter(self), None)
        if first is None:
            raise TableError(f"{path}: empty; it is to hold an object a line, or an array of objects.")
        self.columns = tuple(first.values)

    def __iter__(self) -> Iterator[Row]:
        return self._elements() if self.is_array else self._lines()

    def _lines(self) -> Iterator[Row]:
        with open_text(self._path, self._encoding, newline="\n") as text:  # U+2028 ends no line
            for number, line in enumerate(text, start=1):
                if line.strip():
                    yield self._row(number, self._read(line.strip(_BLANKS), number))

    def _elements(self) -> Iterator[Row]:
        with open_text(self._path, self._encoding, newline="\n") as file:
            text = file.read()
        place, line, counted = _skip(text, text.index("[") + 1), 1, 0
        while text[place : place + 1] != "]":
            line += text.count("\n", counted, place)
            counted = place
            value, place = self._decode(text, place, line)
            yield self._row(line, value)
            place = _skip(text, place)
            if text[place : place + 1] == ",":
                place = _skip(text, place + 1)
            elif text[place : place + 1] != "]":
                raise TableError(f"{self._path}:{line}: not JSON: ',' or ']' is missing behind this element.")
        if rest := text[place + 1 :].strip(_BLANKS):
            raise TableError(f"{self._path}: not JSON: {rest[:20]!r} stands behind the array.")

    def _decode(self, text: str, place: int, line: int) -> tuple[Any, int]:
        try:
            return _DECODER.raw_decode(text, place)
        except (ValueError, RecursionError) as error:
            raise self._not_json(getattr(error, "lineno", line), error) from None

    def _read(self, text: str, line: int) -> Any:
        try:
            return _DECODER.decode(text)
        except (ValueError, RecursionError) as error:
            raise self._not_json(line, error) from None

    def _not_json(self, line: int, error: Exception) -> TableError:
        where = f" at column {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
        said = getattr(error, "msg", str(error))
        return TableError(
            f"{self._path}:{line}: not JSON: {said}{where}; a file holds an object a line, or an array of objects."
        )

    def _row(self, line: int, value: Any) -> Row:
        if not isinstance(value, dict):
            raise TableError(
                f'{self._path}:{line}: {value!r:.40} is no object such as {{"text": …, "label": …}}.'
            )
        return Row(line, value, self._path)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(name for name in names if names.count(name) > 1)!r} stands twice")
    return values


def _skip(text: str, place: int) -> int:
    while text[place : place + 1] and text[place] in _BLANKS:
        place += 1
    return place


def _integer(spelling: str) -> int | WrittenFloat:
    """An integer; -0, and more digits than Python turns into one, keep their spelling."""
    return WrittenFloat(spelling) if spelling == "-0" or len(spelling) > _MOST_DIGITS else int(spelling)


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_float=WrittenFloat, parse_int=_integer)
