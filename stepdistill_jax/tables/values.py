"""What a value of a table is as text, by one rule for all rows, and how it is written again."""

import base64
import datetime
import decimal
import json
import math
from typing import Any


class WrittenFloat(float):
    """A number of a JSON file that keeps its spelling, so that 1.10 and 1.1 stay two labels."""

    __slots__ = ("spelling",)

    def __new__(cls, spelling: str) -> "WrittenFloat":
        number = super().__new__(cls, spelling)
        number.spelling = spelling
        return number


def text_of(value: Any) -> str:
    """A text as it is; an integer, a number and true by their JSON text: 7 is '7', true is 'true'.

    Raises:
      ValueError: says what the value is, where it is no text: null, a list, an object, NaN, half of a character.
    """
    if isinstance(value, str):
        if "\0" in value:
            raise ValueError("text with a NUL character")
        return _whole(value)
    if value is None:
        raise ValueError("null")
    if isinstance(value, WrittenFloat):
        return value.spelling
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("NaN" if math.isnan(value) else "infinite")
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    if isinstance(value, decimal.Decimal):
        return str(value)
    named = {list: "a list", dict: "an object", bytes: "bytes, not text"}
    raise ValueError(named.get(type(value), f"a {type(value).__name__}, not text"))


def json_text(value: Any) -> str:
    """Any value of a table as JSON: numbers by their own spelling, dates by ISO 8601, bytes in base64."""
    if isinstance(value, WrittenFloat):
        return value.spelling
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_json_string(str(key))}: {json_text(value[key])}" for key in value) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(json_text, value)) + "]"
    if value is None or isinstance(value, bool | int | float):
        return json.dumps(value)
    if isinstance(value, decimal.Decimal) and value.is_finite():
        return str(value)
    return _json_string(value if isinstance(value, str) else _written(value))


def cell_text(value: Any) -> str:
    """Any value of a table as a cell: null is empty, a text as it is, and what is neither by its JSON, without quotes.

    Raises:
      ValueError: says what no cell can hold: half of a character, a NUL character.
    """
    if value is None:
        return ""
    if isinstance(value, str):
        return text_of(value)
    if isinstance(value, bool | int | float | list | tuple | dict):
        return _whole(json_text(value))
    return _written(value)


def _written(value: Any) -> str:
    """What JSON has no form for."""
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    return str(value)


def _json_string(text: str) -> str:
    try:
        return json.dumps(_whole(text), ensure_ascii=False)
    except ValueError:
        return json.dumps(text)  # half of a character as JSON writes it: \ud83d


def _whole(text: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError("not whole: it holds half of a character (a lone surrogate)") from None
    return text
