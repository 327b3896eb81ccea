"""Text of others, fit for a terminal: a question, an answer, a server's words, a file's name."""

import re

# C0 and C1 but tab and newline, DEL, what turns the direction of writing, line separators, halves of characters.
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(text: str) -> str:
    r"""The text with control characters written as Python writes them.

    A terminal obeys them: ESC clears the screen, sets its title, or paints over what was said before. Tab and newline stay.

        visible("a\x1b[2Jb")  ->  r"a\x1b[2Jb"
    """
    return _UNSEEN.sub(lambda found: _escaped(ord(found[0])), text)


def visible_line(text: object) -> str:
    """An error, or whatever else is to be one line, with white space as single spaces."""
    return visible(" ".join(str(text).split()))


def _escaped(number: int) -> str:
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}"
