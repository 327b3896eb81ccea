"""Which of a question's choices a language model's answer names: by letter, by text, or by both, which must agree."""

import re
from collections.abc import Iterable, Sequence

from stepdistill_jax.base.visible import look
from stepdistill_jax.teacher.answers.parsing import NO_LABEL, NOT_A_CHOICE
from stepdistill_jax.teacher.prompting import plain_text

MOST_CHARACTERS = 4000  # that are looked at
SHORTEST_TRUNCATED = 3  # characters of a label that was cut

_QUOTES = "\"'“”‘’«»`*_ \t\n"
_NAMED = re.compile(r"(?:option|choice|answer)s?\b[\s:]*", re.IGNORECASE)
_LETTER_FIRST = re.compile(r"\(?([A-Za-z])(?:[).:]+\s*|$)(.*)")
_LETTER_LAST = re.compile(r"(.+?)\s*\(([A-Za-z])\)")
_ARTICLE = re.compile(r"(?:an?|the)\s+")
# What ends a choice in the middle of a line. 'spam-free', '4.5' and 'node.js' are other words.
_BREAK = r"[\"'”’`*_]*(?:[,.;:!]+(?=\s|$)|\s*[(–—]|\s+-+\s)"
# What denies or limits a choice right behind it; 'not enough information' and 'no word of it' explain one.
_DENIED = re.compile(
    r"\W*(?:(?:not|no|never)\W*(?:$|[,.;!])|not\s+(?:really|quite|exactly|strict|entirely|fully|at all|so\b|true|right|correct)|nope\b|excluded\b|ruled out\b|impossible\b|0$|nor\b|or\b|false\b"
    r"|wrong\b|incorrect\b|untrue\b|rather\b|but\b|though\b|although\b|except\b|unless\b|if\b|isn['’]t\b|is not\b)"
)
_OTHER_LETTER = re.compile(r"\(([A-Za-z])\)|\b(?:[Oo]ption|[Cc]hoice)\s+([A-Za-z])\b|[-–—,;/]\s*([A-Z])\W*$")
# What a line below may begin with that gives another choice: a list's mark, 'or', 'Result:', 'So the label is'.
_JOINED = re.compile(
    r"(?:[-+*•>#]+\s+)?(?:or\s+|and\s+)?(?:(?:so|thus|hence|therefore)\b,?\s*)?"
    r"(?:(?:it is|it's)\s+|(?:the\s+)?(?:final\s+|correct\s+)?(?:label|result|relationship|relation|class|verdict|conclusion)\s*(?:is\b|[:=])\s*)?",
    re.IGNORECASE,
)
_MOST_LINES = 5  # below the answer, in which another one may stand


def read_choice(
    text: str, choices: Sequence[str], *, lettered: bool, is_cut: bool | None = None
) -> tuple[str, str]:
    """(label, '') or ('', reason), from what stands behind an answer marker.

    Args:
      text: raw.
      choices: the label comes back as spelt here.
      lettered: whether the question lists them as (a), (b), …, so that a letter names one.
      is_cut: whether the text was cut, so that its last word may not be whole; None where nobody says.
    """
    text = plain_text.without_marks(plain_text.plain(text.lstrip()[:MOST_CHARACTERS]))
    lines = [line for line in text.splitlines() if line.strip(_QUOTES + ".:$")]
    if not lines:
        return "", NO_LABEL
    is_last = len(lines) == 1
    label = _meant(
        lines[0],
        choices,
        lettered=lettered,
        may_be_cut=is_last and is_cut is not False,
        is_cut=is_last and is_cut is True,
    )
    if lettered and any(named != label for named in _named_letters(lines[0], choices)):
        label = ""
    others = [
        _meant(_JOINED.sub("", line.strip(_QUOTES), count=1), choices, lettered=lettered)
        for line in lines[1 : 1 + _MOST_LINES]
    ]
    if any(other and other != label for other in others):
        label = ""  # one below the other
    return (label, "") if label else ("", NOT_A_CHOICE)


def _meant(
    line: str, choices: Sequence[str], *, lettered: bool, may_be_cut: bool = False, is_cut: bool = False
) -> str:
    """The one choice that the line can mean, '' if there is none or more than one."""
    text = _NAMED.sub("", line.strip(_QUOTES + ":$"), count=1) if lettered else line
    text = text.strip(_QUOTES + ":$").removesuffix(".").strip(_QUOTES + "$")
    by_text = _match(text, choices, may_be_cut=may_be_cut, is_cut=is_cut)
    if not lettered:
        return by_text
    letter, rest, letter_is_last = _split_letter(text)
    if not letter:
        is_letter = len(by_text) == 1 and by_text.isalpha()  # 'b, because …', where a choice is called 'b'
        return "" if is_letter and _choice_of(by_text, choices) != by_text else by_text
    if is_cut and text.lstrip("(") == letter:
        return ""  # 'b' may be the beginning of 'bank'
    named = _choice_of(letter, choices)
    if not rest:
        return named if by_text in ("", named) else ""  # a choice may be called 'b', too
    # The text beside a letter must be its own.
    return named if _match(rest, choices, may_be_cut=may_be_cut and not letter_is_last) == named else ""


def _choice_of(letter: str, choices: Sequence[str]) -> str:
    place = ord(letter.lower()) - ord("a")
    return choices[place] if place < len(choices) else ""


def _named_letters(line: str, choices: Sequence[str]) -> list[str]:
    """The choices that '(a)', 'option b', … in the line name, and a lone capital at its end: 'table - D'."""
    return [
        _choice_of("".join(letters), choices)
        for letters in _OTHER_LETTER.findall(line)
        if line.strip(_QUOTES) not in choices
    ]


def _split_letter(text: str) -> tuple[str, str, bool]:
    """(letter, what else is said, whether the letter comes last); no letter is ''."""
    if first := _LETTER_FIRST.fullmatch(text):
        return first[1], first[2].strip(_QUOTES), False
    if last := _LETTER_LAST.fullmatch(text):
        return last[2], last[1].strip(_QUOTES), True
    return "", "", False


def _match(text: str, choices: Sequence[str], *, may_be_cut: bool, is_cut: bool = False) -> str:
    said = _plain(text)
    by_text = _by_text(text, choices)
    if said not in by_text and (article := _ARTICLE.match(said)) and said[article.end() :] in by_text:
        said = said[article.end() :]  # 'a table'
    if said in by_text:
        longer = any(plain != said and plain.startswith(said) for plain in by_text)
        return "" if is_cut and longer else by_text[said]
    # 'entailment, because …': one choice, then a break, and no other choice behind it.
    begun = [plain for plain in by_text if re.match(re.escape(plain) + _BREAK, said)]
    if begun:
        longest = max(begun, key=len)
        return "" if _is_changed(longest, said, by_text) else by_text[longest]
    if may_be_cut and len(said) >= SHORTEST_TRUNCATED:
        cut = [plain for plain in by_text if plain.startswith(said)]
        return by_text[cut[0]] if len(cut) == 1 else ""
    return ""


def _by_text(text: str, choices: Sequence[str]) -> dict[str, str]:
    """What is said -> the choice that it means. Of choices that differ in case and the like, 'Bug' and 'bug', it means the one
    that is spelled as the text is, and none ('') where none is."""
    groups: dict[str, list[str]] = {}
    for choice in dict.fromkeys(choices):
        groups.setdefault(_plain(choice), []).append(choice)
    return {
        plain: group[0] if len(group) == 1 else text if text in group else ""
        for plain, group in groups.items()
    }


def _is_changed(begun: str, said: str, by_text: Iterable[str]) -> bool:
    """Whether what stands behind a choice names another one, denies it, or goes on with its number or its name."""
    rest, others = said[len(begun) :], [plain for plain in by_text if plain != begun]
    if _DENIED.match(rest) or (begun[-1:].isdigit() and re.search(r"\d", rest)):
        return True
    if any(re.search(rf"(?<!\w){re.escape(other)}(?!\w)", rest) for other in others):
        return True
    squashed = _squashed(said)
    return any(
        squashed.startswith(longer)
        and len(longer) > len(_squashed(begun))
        and longer.startswith(_squashed(begun))
        for longer in map(_squashed, others)
    )


def _squashed(text: str) -> str:
    return re.sub(r"[\W_]+", "", text)


def _plain(text: str) -> str:
    text = look(text).strip(_QUOTES + ".")
    return (
        text[1:-1].strip() if text.startswith("(") and text.endswith(")") and ")" not in text[:-1] else text
    )
