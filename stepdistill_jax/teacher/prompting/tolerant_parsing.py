"""Answers of a model of today -> rationale and label: forgiving about form, strict about what the answer is.

`parsing.parse_completion` has the rules of the authors' loader, and recorded completions are read by them alone. A model that is
asked by us may write the marker in other case or in bold, quote its label, leave out brackets, add a unit, or be cut in
the middle of a word. Such an answer is read where just one label can be meant, and is unparsed otherwise.
"""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from stepdistill_jax.datasets import equations
from stepdistill_jax.teacher.answers.parsing import (
    NO_LABEL,
    NO_MARKER,
    NO_RATIONALE,
    NOT_A_CHOICE,
    TWO_MARKERS,
    ParsedCompletion,
    parse_completion,
)

if TYPE_CHECKING:
    from stepdistill_jax.datasets import CompletionFormat

NOT_AN_EQUATION = "label is no equation"
EQUATION_AND_VALUE_DIFFER = "equation and value differ"
SHORTEST_TRUNCATED = 3  # characters of a label that was cut
MOST_UNIT_WORDS = 6  # behind a number, as in '23 apples in all'

_QUOTES = "\"'“”‘’«»`*_ \t\n"
_SIGNS = str.maketrans({"×": "*", "·": "*", "÷": "/", "−": "-", "–": "-", "$": " ", "€": " ", "£": " "})


def parse_answer(
    output: str,
    completion_format: "CompletionFormat",
    *,
    choices: Sequence[str] = (),
    lettered: bool = False,
    equation: bool = False,
) -> ParsedCompletion:
    """The rationale and label in `output`, or why there are none.

    Args:
      output: raw text of the model.
      completion_format: of the dataset, or of the prompt's file.
      choices: the labels there are for this question, or () if any text may be one. The label comes back as spelt here.
      lettered: whether the question lists the choices as (a), (b), …, so that a letter names one.
      equation: whether labels are equations; '14 + 9 = 23 apples' gives '14 + 9'.

        So, **the answer is**: (B) Wooded Area.        -> 'wooded area'       Answer: entail (end of text) -> 'entailment'
        The answer is 14 + 9 = 23 postcards.           -> '14 + 9'            Answer: entailment or neutral -> not a choice
    """
    strict = parse_completion(output, completion_format)
    # A letter and another choice's text contradict each other; the strict rules don't see that.
    if not strict.unparsed_reason and not lettered and _is_exact(strict.label, choices, equation):
        return ParsedCompletion(strict.rationale.strip(), strict.label)
    parts = _split_at_marker(
        _own_text(output, completion_format.next_question), completion_format.answer_marker
    )
    if len(parts) == 1:
        return ParsedCompletion("", "", NO_MARKER)
    rationale = parts[0].replace("**", "").strip().removesuffix("(").rstrip()
    readings = [_read_label(part, choices, lettered=lettered, equation=equation) for part in parts[1:]]
    labels = {label for label, _ in readings}
    if len(labels) > 1:
        return ParsedCompletion("", "", TWO_MARKERS)
    label, reason = readings[0]
    if reason:
        return ParsedCompletion(rationale, "", reason)
    if not rationale:
        return ParsedCompletion("", "", NO_RATIONALE)
    return ParsedCompletion(rationale, label)


def _is_exact(label: str, choices: Sequence[str], equation: bool) -> bool:
    if equation:
        return equations.evaluate(label) is not None
    if choices:
        return label in choices
    return "\n" not in label and label == label.strip(_QUOTES + ":")


def _own_text(output: str, next_question: str) -> str:
    """What stands before the invented next question, which begins a line; a rationale may well say 'Premise' itself."""
    text = output.lstrip()
    found = re.search(rf"\n[\s*]*{re.escape(next_question)}", text)
    return (text[: found.start()] if found else text).rstrip()


def _split_at_marker(text: str, marker: str) -> list[str]:
    words = [re.escape(word) for word in marker.rstrip(":").split()]
    colon = ":" if marker.rstrip().endswith(":") else ":?"
    pattern = r"\**(?<!\w)" + r"[\s,*]+".join(words) + rf"\**\s*{colon}\**"
    return re.split(pattern, text, flags=re.IGNORECASE)


def _read_label(text: str, choices: Sequence[str], *, lettered: bool, equation: bool) -> tuple[str, str]:
    """(label, '') or ('', reason), from what stands behind a marker."""
    lines = [line for line in text.splitlines() if line.strip(_QUOTES + ".:")]
    if not lines:
        return "", NO_LABEL
    if equation:
        return _read_equation(lines[0])
    if not choices:
        label = lines[0].strip(_QUOTES).removesuffix(".").strip(_QUOTES)
        return (label, "") if label else ("", NO_LABEL)
    label = _read_choice(lines[0], choices, lettered=lettered, is_last=len(lines) == 1)
    return (label, "") if label else ("", NOT_A_CHOICE)


def _read_equation(line: str) -> tuple[str, str]:
    text = re.sub(r"(?<=\d)\s*[xX]\s*(?=[\d(])", " * ", line.translate(_SIGNS))
    text = re.sub(r"(?<![\d)])\*\*|\*\*(?![\d(])", "", text)  # bold, not a power
    text = text.strip(_QUOTES + ":").replace("\\(", "(").replace("\\)", ")")
    found = re.match(r"[-+*/().,%=\d\s]*", text)
    arithmetic, unit = found[0], text[found.end() :]
    if re.search(r"\d|[-+*/=]\s", unit) or len(unit.split()) > MOST_UNIT_WORDS:
        return "", NOT_AN_EQUATION
    sides = [_trimmed(side) for side in arithmetic.strip(" .,").split("=")]
    values = [equations.evaluate(side) for side in sides]
    if any(value is None for value in values):
        return "", NOT_AN_EQUATION
    if not all(equations.values_match(value, values[0]) for value in values):
        return "", EQUATION_AND_VALUE_DIFFER
    return sides[0], ""


def _trimmed(side: str) -> str:
    """Without spaces and full stop around, and without the last bracket of '(The answer is 5).'. One that was never
    closed stays, as the equation may have been cut."""
    side = " ".join(side.strip(" .,").split())
    return side[:-1].strip() if side.endswith(")") and side.count(")") == side.count("(") + 1 else side


def _read_choice(line: str, choices: Sequence[str], *, lettered: bool, is_last: bool) -> str:
    """The one choice that the line can mean, '' if there is none or more than one."""
    text = line.strip(_QUOTES + ":").removesuffix(".").strip(_QUOTES)
    letter = re.match(r"\(?([A-Za-z])(?:[).:]+\s*|$)(.*)", text) if lettered else None
    if letter is None:
        return _match(text, choices, may_be_cut=is_last)
    place = ord(letter[1].lower()) - ord("a")
    if place >= len(choices):
        return ""
    named, rest = choices[place], letter[2].strip(_QUOTES)
    if not rest:
        return named
    # The text behind a letter must be its own.
    return named if _match(rest, choices, may_be_cut=is_last) == named else ""


def _match(text: str, choices: Sequence[str], *, may_be_cut: bool) -> str:
    said = _plain(text)
    by_text = {_plain(choice): choice for choice in choices}
    if said in by_text:
        return by_text[said]
    # 'entailment, because …': one choice, then a break, and no other choice behind it.
    begun = [plain for plain in by_text if re.match(rf"{re.escape(plain)}\W*[,.;:(–—-]", said)]
    if begun:
        longest = max(begun, key=len)
        rest = said[len(longest) :]
        others = any(re.search(rf"\b{re.escape(other)}\b", rest) for other in by_text if other != longest)
        return "" if others else by_text[longest]
    if may_be_cut and len(said) >= SHORTEST_TRUNCATED:
        cut = [plain for plain in by_text if plain.startswith(said)]
        return by_text[cut[0]] if len(cut) == 1 else ""
    return ""


def _plain(text: str) -> str:
    return " ".join(text.casefold().strip(_QUOTES + ".").split())
