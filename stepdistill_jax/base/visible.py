"""Text of others, fit for a terminal: a question, an answer, a server's words, a file's name."""

import re
import unicodedata

# C0 and C1 but tab and newline, DEL, what turns the direction of writing, line separators, halves of characters.
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")

# Categories of characters that leave no mark: controls, formats such as U+200B and U+FEFF, blanks of all kinds.
_MARKLESS = ("Cc", "Cf", "Zs", "Zl", "Zp")
# Quotes and dashes that word processors put in the place of those on a keyboard.
_TYPED = str.maketrans(
    dict.fromkeys("\u2018\u2019\u201a\u201b\u2032\u00b4\u02bc`", "'")
    | dict.fromkeys("\u201c\u201d\u201e\u201f\u2033\u00ab\u00bb", '"')
    | dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212", "-")
)
_VARIATION_SELECTORS = re.compile("[\ufe00-\ufe0f]")

# UTF-8 that was read as cp1252 or latin-1: 'Ã¼' for 'ü'. Quotes may well stand behind an 'Ã'.
_MISREAD = re.compile(
    "[ÃÂ][\x80-\xbf\u20ac\u201a\u0192\u201e\u2026\u2020\u2021\u02c6\u2030\u0160\u2039\u0152\u017d\u2013\u2014\u02dc\u2122\u0161\u203a\u0153\u017e\u0178]|â€"
)
_LOST = "\ufffd"  # stands for what could not be read


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


def shortened(text: str, length: int) -> str:
    """The text, or its begin with an ellipsis where it is longer."""
    return text if len(text) <= length else f"{text[:length]}…"


def is_blank(text: str) -> bool:
    """Whether nothing of a text can be seen: it is empty, or all blanks and characters such as U+200B."""
    return all(unicodedata.category(character) in _MARKLESS for character in text)


def is_damaged(text: str) -> bool:
    """Whether it looks as if UTF-8 was read in another encoding, or characters were lost: 'Ã¼' for 'ü', or U+FFFD."""
    return _LOST in text or _MISREAD.search(text) is not None


def look(text: str) -> str:
    """What texts that a reader takes for one have in common: without case, kinds and number of blanks, what is not seen, forms
    of a character (NFKC), typographic quotes and dashes."""
    if text.isascii() and text.isprintable() and "`" not in text:
        return folded(text)
    typed = _VARIATION_SELECTORS.sub("", text.translate(_TYPED))
    seen = "".join(each for each in typed if each.isspace() or unicodedata.category(each) not in ("Cf", "Cc"))
    # Characters that only composed when what stood between them was gone are one form, too.
    return unicodedata.normalize("NFKC", folded(seen))


def folded(text: str) -> str:
    """A text without case, kinds and number of blanks, and forms of a character (NFKC)."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def spelled(text: str) -> str:
    r"""The text in quotes, and what can't be told from another by eye as Python writes it.

    spelled("Ru\u0308ckgabe")  ->  r"'Ru\u0308ckgabe'", which a terminal shows as it shows 'Rückgabe'
    """
    shown = repr(text)
    if unicodedata.is_normalized("NFC", text):
        return shown
    return "".join(_escaped(ord(each)) if _is_part(each) else each for each in shown)


def told_plainly(text: str) -> str:
    """The text, in quotes where it is not what it looks like: `spelled` where blanks are at its ends, say."""
    quoted = spelled(text)
    return text if quoted[1:-1] == text == text.strip() else quoted


def _is_part(character: str) -> bool:
    """Whether it is a part of another character (an accent, a Korean letter of a syllable), or another form of it."""
    is_korean = "\u1100" <= character <= "\u11ff"
    return bool(
        is_korean or unicodedata.combining(character) or not unicodedata.is_normalized("NFC", character)
    )
