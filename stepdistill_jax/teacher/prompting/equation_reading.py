r"""A language model's equation: read whole, or not at all.

    (5 + 3) * 2 = 16 pots   -> '(5 + 3) * 2'          $\frac{12}{2}$    -> '12 / 2'         12½ liters     -> '12 + 1 / 2'
    12 and a half           -> label is no equation   12 - 5 = 8        -> equation and value differ

A part of an equation has another value, and would teach it. So units, currency, bold and LaTeX are taken off by name, and what is then left
must be an equation from its first character to its last.
"""

import re
import unicodedata
from collections.abc import Sequence
from fractions import Fraction

from stepdistill_jax.datasets import equations
from stepdistill_jax.teacher.answers.parsing import NO_LABEL
from stepdistill_jax.teacher.prompting import plain_text
from stepdistill_jax.teacher.prompting.plain_text import (
    FRACTION_CLOSES,
    FRACTION_OPENS,
    GROUP_CLOSES,
    GROUP_OPENS,
)

NOT_AN_EQUATION = "label is no equation"
EQUATION_AND_VALUE_DIFFER = "equation and value differ"
MOST_UNIT_WORDS = 6  # behind a number, as in '23 apples in all'
MOST_CHARACTERS = 2 * equations.MAX_LENGTH  # of a line

_QUOTES = "\"'“”‘’«»_ \t"
_CURRENCIES = dict.fromkeys(map(ord, "$€£¥₹"), " ")
_TIMES = re.compile(
    rf"(?<=[\d){FRACTION_CLOSES}{GROUP_CLOSES}])\s*[xX]\s*(?=[\d(.{FRACTION_OPENS}{GROUP_OPENS}])"
)
_MILLIONS = re.compile(r"[$€£¥₹]\s*[\d.,]+\s*[kmb]\b", re.IGNORECASE)  # of money, m is no metre
_HEXADECIMAL = re.compile(r"(?<!\d)0[xX][\dA-Fa-f]")
_ARITHMETIC = re.compile(rf"[-+*/().,%\d\s{FRACTION_OPENS}{FRACTION_CLOSES}{GROUP_OPENS}{GROUP_CLOSES}]*")
_BRACKETED_WORDS = re.compile(r"\(([^()\d]*[^\W\d_][^()\d]*)\)")  # '12 (pots)'
# A line that goes on with what stands before it: an operator below, or a lower-case word, a number or a sign right below.
_CONTINUES = re.compile(
    rf"[\s$]*[-+*/] *[\d(]|\n[ \t]*[$({FRACTION_OPENS}{GROUP_OPENS}]*(?:[^\W\dA-Z_]|[\d%×÷]|plus|or\b|and\b)"
)
_LISTED = re.compile(r"[-+*]\s")  # a list's mark, or a sign: no telling
_ELLIPSIS = re.compile(r"\d\s*\.{2,}")  # 0.333... is not 0.333
_ASKED = re.compile(r"[^.!;]*\?")
# 5-7 may be a range, and 1-1/2 one and a half.
_HYPHENATED = re.compile(
    rf"\(?(\d[\d.]*)%?- ?(?:(\d[\d.]*)%?|{FRACTION_OPENS}?(\d+) ?/ ?(\d+){FRACTION_CLOSES}?)\)?"
)
# A point before three digits groups thousands in other languages; no price in English has three decimals.
_GROUPED_MONEY = re.compile(
    r"[$€£¥₹]\s*\d{1,3}\.\d{3}(?!\d)|(?<![\d.,])\d{1,3}\.\d{3}\s*(?:[$€£¥₹]|euros?\b|eur\b)", re.IGNORECASE
)
_SENTENCE_END = re.compile(r"[.!?;]\s|\n")
_DEGREES = re.compile(r"°[CF][.,;:!?]?")
_AREA = re.compile(r"(?<=[a-z])[²³]$")  # m²
_MORE_THAN_ARITHMETIC = re.compile(r"=|[^\W\d_]")
_ANOTHER_NUMBER = (_HEXADECIMAL, _MILLIONS, _GROUPED_MONEY, _ELLIPSIS)
_RESULT = re.compile(
    r"#{3,}\s*|(?:so\s+|thus,?\s+|hence,?\s+)?(?:the|my)?\s*(?:(?:final|correct)\s+)?(?:answer|result|solution|total|value)(?:['’]s|\s+(?:is|was|equals|becomes"
    r"|would be|will be))?\s*(?:[:=→-]\s*)?|(?:final|therefore|thus|hence|that gives|which gives|this gives)\b[,:]?\s*",
    re.IGNORECASE,
)
_LIST_NUMBER = re.compile(r"\d+[.)]")
_PERCENT = re.compile(r"\s*(?:per ?cent|pct)\b", re.IGNORECASE)
# Behind a number, these make another number of it.
_VALUE_WORDS = """
zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen
twenty thirty forty fifty sixty seventy eighty ninety hundred hundreds thousand thousands million millions billion billions
trillion trillions tens dozen dozens score gross half halves third thirds quarter quarters fourth fourths fifth fifths sixth
sixths seventh sevenths eighth eighths ninth ninths tenth tenths hundredth hundredths thousandth thousandths squared cubed plus
minus times divided multiplied over point and or to twice double doubled triple thrice factorial negative pi percent pct mod
remainder bn mn approximately roughly almost nearly about around least most if unless below doubled tripled quadrupled halved rounded wrong incorrect
lakh lakhs crore crores mil mille mila million millions milliard milliards millones millón milhão milhões milioni millionen milliarde milliarden
milyon miljoen juta ribu bin nghìn triệu tausend hundert duizend mln mio mrd mld tys tsd thsd thou grand scores halb einhalb demi demie medio
media meio meia mezzo mezza dutzend dozijn douzaine douzaines docena docenas dúzia dúzias dozzina dozzine ciento cientos cento cem tysiąc tysiące
tysięcy тысяч тысяча тысячи тыс млн млрд миллион миллиона миллионов миллиард дюжина дюжины сотня сотни сотен пол половиной половина ألف آلاف مليون
fold bps basis ppm prozent percento pour процент процента процентов проц drittel viertel fünftel zehntel hundertstel zehn zehner tiers quintos
más menos moins mais плюс минус twos threes fours fives sixes sevens eights nines reciprocal inverse inverted exp recurring repeating range
"""
_CHANGES_THE_VALUE = frozenset(_VALUE_WORDS.split())
_SUFFIXES = frozenset(
    {"k", "m", "b", "bn", "mn", "st", "nd", "rd", "th", "ish"}
)  # 5k, 10th: glued to the number
_UNIT_LETTERS = frozenset("mglhsa")  # other single letters are variables
_LARGE_LETTERS = frozenset({"K", "M", "MM", "B", "G", "T"})  # thousands, millions, …
_KOREAN_NUMERALS = "십백천만억조"
# Wherever they stand in a word: 十个半, 'tenthousand'.
_IN_WORDS = re.compile(r"[半倍割折余多]|hundred|thousand|million|billion|dozen|^p\.c")


def read_equation(text: str, *, is_cut: bool = False, in_brackets: bool = False) -> tuple[str, str]:
    """(label, '') or ('', reason), from what stands behind an answer marker.

    Args:
      text: raw.
      is_cut: whether the text was cut, so that an equation at its very end may not be whole.
      in_brackets: whether a bracket stands before the marker, which a last one closes: '(The answer is 5).'
    """
    has_minus_sign = "−" in text.lstrip().partition("\n")[0]  # which joins nothing
    text = plain_text.plain(text.lstrip()[: 2 * MOST_CHARACTERS])
    return _read_plain(text, is_cut=is_cut, in_brackets=in_brackets, has_minus_sign=has_minus_sign)


def _read_plain(
    text: str, *, is_cut: bool = False, in_brackets: bool = False, has_minus_sign: bool = False
) -> tuple[str, str]:
    """As `read_equation`, from what `plain_text.plain` has made of it."""
    line, below = _first_line(text)
    if not plain_text.without_marks(line).strip(_QUOTES + ".:*"):
        return "", NO_LABEL
    goes_on = not line.endswith((".", "!", ".$", "。")) and _CONTINUES.match(below)
    if len(line) > MOST_CHARACTERS or goes_on or any(sign.search(line) for sign in _ANOTHER_NUMBER):
        return "", NOT_AN_EQUATION
    line = _BRACKETED_WORDS.sub(r" , \1 , ", _without_frame(line).translate(_CURRENCIES))
    line = _TIMES.sub(" * ", line).translate({ord("["): "(", ord("]"): ")"}).strip()
    if _LISTED.match(line):
        return "", NOT_AN_EQUATION
    sides, rests = zip(*(_split_unit(side) for side in line.split("=")), strict=True)
    may_go_on = is_cut and not _SENTENCE_END.search(rests[-1] + below)
    if may_go_on or _ASKED.match(rests[-1]) or not all(map(_is_unit, rests)):
        return "", NOT_AN_EQUATION
    if len(sides) == 1 and not has_minus_sign and _is_hyphenated(sides[0]):
        return "", NOT_AN_EQUATION
    return _agreed([_closed(side) if in_brackets else side for side in sides])


def values_below(text: str) -> list[Fraction]:
    """What the lines below an answer give as a result once more: a line that is nothing but a value, or says 'Result: 12', 'So the total is 12'."""
    values = []
    for line in plain_text.plain(text[: 2 * MOST_CHARACTERS]).split("\n")[1:]:
        said = plain_text.without_groups(line).strip(_QUOTES + "*$")  # 1 / ½ is no 1 / 1 / 2
        result = _RESULT.match(said)
        if result or (_ARITHMETIC.fullmatch(said.replace("=", "")) and not _LIST_NUMBER.fullmatch(said)):
            label, reason = _read_plain(said[result.end() :] if result else said.lstrip("= "))
            values += [] if reason else [equations.evaluate(label)]
    return values


def _agreed(sides: Sequence[str]) -> tuple[str, str]:
    """The first side, where all have the same value."""
    readings = [_read_side(side) for side in sides]
    values = [value for _, value in readings]
    if any(value is None for value in values):
        return "", NOT_AN_EQUATION
    if not all(equations.values_match(value, values[0]) for value in values):
        return "", EQUATION_AND_VALUE_DIFFER
    return readings[0][0], ""


def _first_line(text: str) -> tuple[str, str]:
    """The first line with anything on it, joined by lines that go on with '='; and what stands right below."""
    lines = text.split("\n")
    while lines and not plain_text.without_marks(lines[0]).strip(_QUOTES + ".:*$"):
        lines = lines[1:]
    line, lines = (lines[0], lines[1:]) if lines else ("", [])
    while lines and lines[0].lstrip().startswith("="):
        line, lines = f"{line} {lines[0].strip()}", lines[1:]
    return line.strip(), "\n".join(["", *lines])[:MOST_CHARACTERS]


def _without_frame(line: str) -> str:
    """Without quotes, a colon, the stars of *italics*, and brackets that hold more than an equation."""
    line = line.strip(_QUOTES).lstrip(":").strip(_QUOTES)
    if italics := re.fullmatch(r"\*(\S|\S.*\S)\*\.?", line):
        return italics[1]
    inside = line.rstrip(" .")[1:-1]
    is_one = _is_one_group(line.rstrip(" ."), "(", ")")
    return inside if is_one and _MORE_THAN_ARITHMETIC.search(inside) else line  # (8 pots), (12 - 5 = 7)


def _split_unit(side: str) -> tuple[str, str]:
    """('16', 'pots') from '16 pots'."""
    arithmetic = _ARITHMETIC.match(side)[0]
    rest = side[len(arithmetic) :]
    if percent := _PERCENT.match(rest):
        arithmetic, rest = f"{arithmetic.rstrip()}%", rest[percent.end() :]
    elif rest and arithmetic and not arithmetic[-1].isspace():
        rest = f"'{rest}"  # glued to the number
    ended = arithmetic.rstrip()
    if ended.endswith((".", ",")):  # a full stop or comma belongs to the words
        rest = f"{ended[-1]} {rest}".rstrip()
    return ended.rstrip(" .," + GROUP_OPENS), rest


def _is_unit(rest: str) -> bool:
    """Whether what stands behind a value says nothing about the value: few words, none of a number."""
    words = rest.translate(dict.fromkeys(map(ord, GROUP_OPENS + GROUP_CLOSES))).split()
    if words and words[0].startswith("'"):
        glued = words[0][1:].strip(".,;!?\"'").casefold()
        if glued in _SUFFIXES:
            return False
        words[0] = words[0][1:]
    first_sentence = _SENTENCE_END.split(rest, maxsplit=1)[0]
    return len(first_sentence.split()) <= MOST_UNIT_WORDS and all(map(_is_unit_word, words))


def _is_hyphenated(side: str) -> bool:
    """Whether a side is two numbers that a hyphen may join rather than subtract: 5-7, 1-1/2."""
    if (found := _HYPHENATED.fullmatch(plain_text.without_groups(side).strip())) is None:
        return False
    left, right, over, under = (equations.evaluate(number or "0") or 0 for number in found.groups())
    return over < under if found[4] else left < right


def _is_unit_word(word: str) -> bool:
    if _DEGREES.fullmatch(word):
        return True
    if word.strip(".,;:!?") in _LARGE_LETTERS or word[:1] in _KOREAN_NUMERALS:
        return False
    word = _AREA.sub("", word.strip(".,;:!?\"'“”’*_°").casefold())
    if _IN_WORDS.search(word):
        return False
    letters = re.split(r"[-/'’.]", word)
    if any(part in _CHANGES_THE_VALUE for part in letters) or (len(word) == 1 and word not in _UNIT_LETTERS):
        return False
    return all(
        character.isalpha() and unicodedata.numeric(character, None) is None
        for part in letters
        for character in part
    )


def _closed(side: str) -> str:
    side = side.strip()
    return side[:-1] if side.endswith(")") and side.count(")") == side.count("(") + 1 else side


def _read_side(side: str) -> tuple[str, object]:
    """(text, value) of one side; the value is None where it is no equation, or may be one of two."""
    side = _without_lone_marks(" ".join(side.split()), GROUP_OPENS, GROUP_CLOSES)
    grouped = side.replace(GROUP_OPENS, "(").replace(GROUP_CLOSES, ")")
    bare = side.replace(GROUP_OPENS, "").replace(GROUP_CLOSES, "")
    texts = [_with_fractions(reading) for reading in (bare, grouped)]
    values = [equations.evaluate(text) for text in texts]
    return (texts[0], values[0]) if values[0] == values[1] else ("", None)


def _without_lone_marks(side: str, opens: str, closes: str) -> str:
    """Without a mark at either end whose partner is on the other side of '=', or around a unit."""
    surplus = side.count(opens) - side.count(closes)
    while surplus > 0 and side.startswith(opens):
        side, surplus = side[1:].strip(), surplus - 1
    while surplus < 0 and side.endswith(closes):
        side, surplus = side[:-1].strip(), surplus + 1
    return side


def _with_fractions(side: str) -> str:
    """Fractions in brackets, but for one that is all there is."""
    side = side[1:-1] if _is_one_group(side, FRACTION_OPENS, FRACTION_CLOSES) else side
    return side.replace(FRACTION_OPENS, "(").replace(FRACTION_CLOSES, ")").strip()


def _is_one_group(text: str, opens: str, closes: str) -> bool:
    """Whether the bracket that the text begins with is closed by its last character."""
    depth = 0
    for place, character in enumerate(text):
        depth += (character == opens) - (character == closes)
        if depth == 0:
            return character == closes and place == len(text) - 1
    return False
