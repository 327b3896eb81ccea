"""Text of others, fit for a terminal: a question, an answer, a server's words, a file's name."""

import re
import unicodedata

# C0 and C1 but tab and newline, DEL, what turns the direction of writing, line separators, halves of characters.
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")

# Categories of characters that leave no mark: controls, formats such as U+200B and U+FEFF, blanks of all kinds.
_MARKLESS = ("Cc", "Cf", "Zs", "Zl", "Zp")
# Quotes and dashes that word processors put in the place of those on a keyboard.
_TYPED = str.maketrans(
    dict.fromkeys("\u2018\u2019\u02bc", "'")
    | dict.fromkeys("\u201c\u201d", '"')
    | dict.fromkeys("\u2010\u2012\u2013\u2014\u2212", "-")
)


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


def is_blank(text: str) -> bool:
    """Whether nothing of a text can be seen: it is empty, or all blanks and characters such as U+200B."""
    return all(unicodedata.category(character) in _MARKLESS for character in text)


def look(text: str) -> str:
    """What texts that a reader takes for one have in common: without case, kinds of blanks, what is not seen, forms of a
    character (NFKC), typographic quotes and dashes."""
    seen = unicodedata.normalize("NFKC", text).casefold().translate(_TYPED)
    return " ".join("".join(each for each in seen if unicodedata.category(each) != "Cf").split())


def spelled(text: str) -> str:
    r"""The text in quotes, and what can't be told from another by eye as Python writes it.

    spelled("Ru\u0308ckgabe")  ->  r"'Ru\u0308ckgabe'", which a terminal shows as it shows 'Rückgabe'
    """
    shown = repr(text)
    if unicodedata.is_normalized("NFC", text):
        return shown
    return "".join(_escaped(ord(each)) if _is_part(each) else each for each in shown)


def _is_part(character: str) -> bool:
    """Whether it is a part of another character, or another form of it."""
    return bool(unicodedata.combining(character)) or not unicodedata.is_normalized("NFC", character)
