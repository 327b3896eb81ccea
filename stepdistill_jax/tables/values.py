"""What a value of a table is as text, by one rule for all rows."""

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


def _whole(text: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError("not whole: it holds half of a character (a lone surrogate)") from None
    return text
