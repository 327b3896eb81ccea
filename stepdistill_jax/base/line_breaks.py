"""Line breaks written as a word, where a vocabulary would lose them, and read back (`datasets.spelling` says when)."""

import re

LINE_BREAK = r"[ \t]*(?:\r\n|\n|\r)[ \t]*"  # for Python's re, and for RE2


def write_line_breaks(text: str, word: str | None) -> str:
    """'one\\ntwo' -> 'one WORD two'; as it is where `word` is None."""
    return text if word is None else re.sub(LINE_BREAK, lambda _: f" {word} ", text)


def read_line_breaks(text: str, word: str | None) -> str:
    """'one WORD two' -> 'one\\ntwo'."""
    return text if word is None else re.sub(rf" ?{re.escape(word)} ?", "\n", text)
