r"""Answers of a model of today -> rationale and label: forgiving about form, strict about what the answer is.

`parsing.parse_completion` has the rules of the authors' loader, patterns of labels included, and recorded completions are read by them alone.
A model that is asked by us may write the marker in other case or in bold, quote its label, leave out brackets, add a unit, box its
label, or be cut in the middle of a word. Such an answer is read where just one label can be meant, and is unparsed otherwise.

    So, **the answer is**: (B) Wooded Area.        -> 'wooded area'       Answer: entail (end of text) -> 'entailment'
    The answer is 14 + 9 = 23 postcards.           -> '14 + 9'            Answer: entailment or neutral -> not a choice
"""

import dataclasses
import re
from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING

from stepdistill_jax.datasets import equations
from stepdistill_jax.teacher.answers.parsing import (
    NO_LABEL,
    NO_MARKER,
    NO_RATIONALE,
    TWO_MARKERS,
    ParsedCompletion,
)
from stepdistill_jax.teacher.prompting import plain_text
from stepdistill_jax.teacher.prompting.choice_reading import read_choice
from stepdistill_jax.teacher.prompting.equation_reading import NOT_AN_EQUATION, read_equation

if TYPE_CHECKING:
    from stepdistill_jax.datasets import CompletionFormat

_TAIL = 200  # characters, to be looked at before and behind a place
_MOST_PLACES = 50  # of answers in one text; beyond, a model repeats itself
_QUOTES = "\"'“”‘’«»`*_ \t\n"
# Markers of other prompts, which models write by habit; taken where the prompt's own is not there.
_FINAL = re.compile(
    r"(?<!\w)(?:so,?\s+)?(?:(?:the|my)\s+)?final\s+answer\**(?:\s+is)?\s*:?\**\s*", re.IGNORECASE
)
_HABITUAL = re.compile(
    r"(?<!\w)(?:so,?\s+)?(?:the\s+(?:correct\s+)?answer\**\s+is\**\s*:?\**|(?:correct\s+)?answer\**:\**)\s*",
    re.IGNORECASE,
)
_OPERATOR_BEFORE = re.compile(r"(?:[-+*/×÷·−^\d]|\\times|\\cdot|\\div)\s*$")
_DELIMITERS = re.compile(r"(?:\\[\[(]|\$+|\s|\*\*)+$")
_STUB = re.compile(
    r"(?:(?:^|\n)[ \t]*(?:#+[^\n]*|-{3,})|(?<!\w)(?:final\s+)?answer:|[(#*]|\\[\[(]|\$)\s*$", re.IGNORECASE
)


@dataclasses.dataclass(frozen=True)
class LabelForm:
    """What labels there are for a question.

    Attributes:
      choices: the only ones, or () if any text may be one. The label comes back as spelt here.
      lettered: whether the question lists the choices as (a), (b), …, so that a letter names one.
      equation: whether labels are equations; '14 + 9 = 23 apples' gives '14 + 9'.
    """

    choices: Sequence[str] = ()
    lettered: bool = False
    equation: bool = False

    def read(self, text: str, *, is_cut: bool | None = None, in_brackets: bool = False) -> tuple[str, str]:
        """(label, '') or ('', reason), from a text that begins with the label; see `read_equation`, `read_choice`."""
        if self.equation:
            return read_equation(text, is_cut=bool(is_cut), in_brackets=in_brackets)
        if self.choices:
            return read_choice(text, self.choices, lettered=self.lettered, is_cut=is_cut)
        text = plain_text.without_marks(plain_text.plain(text)) if "\\" in text else text
        lines = [line for line in text.splitlines() if line.strip(_QUOTES + ".:")]
        label = lines[0].strip(_QUOTES).removesuffix(".").strip(_QUOTES) if lines else ""
        return (label, "") if label and not (is_cut and len(lines) == 1) else ("", NO_LABEL)

    def meaning(self, label: str) -> Fraction | str:
        """What two labels are compared by: an equation's value, or the text."""
        value = equations.evaluate(label) if self.equation else None
        return label if value is None else value


def parse_answer(
    output: str,
    completion_format: "CompletionFormat",
    form: LabelForm,
    *,
    is_cut: bool | None = None,
    stand_in: str = "",
) -> ParsedCompletion:
    """The rationale and label in `output`, or why there are none.

    Args:
      output: raw text of the model, without thoughts.
      completion_format: of the dataset, or of the prompt's file.
      form: of the labels.
      is_cut: whether the budget of tokens ended it; None where the server doesn't say.
      stand_in: for a rationale, where the answer has none of its own.
    """
    text = _own_text(output, completion_format.next_question)
    kinds = [_marked(text, _pattern(completion_format.answer_marker)), _marked(text, _FINAL), _boxed(text)]
    kinds.insert(2, [] if any(kinds[:2]) else _marked(text, _HABITUAL))
    answers = next((found for found in kinds if found), [])
    if not answers:
        return ParsedCompletion("", "", NO_MARKER)
    if max(map(len, kinds)) > _MOST_PLACES:
        return ParsedCompletion("", "", TWO_MARKERS)
    readings = [answer.read(form, is_cut=is_cut) for answer in answers]
    # What is said again in another way must say the same.
    others = [answer.read(form, is_cut=is_cut) for found in kinds[1:] for answer in found]
    meanings = {form.meaning(label) for label, reason in readings + [o for o in others if not o[1]]}
    if len(meanings) > 1:
        return ParsedCompletion("", "", TWO_MARKERS)
    return parsed_completion(answers[0].rationale or stand_in, *readings[0])


def parsed_completion(rationale: str, label: str, reason: str) -> ParsedCompletion:
    """What was read, which teaches nothing without a rationale."""
    if reason or rationale:
        return ParsedCompletion(rationale, label, reason)
    return ParsedCompletion("", "", NO_RATIONALE)


@dataclasses.dataclass(frozen=True)
class _Answer:
    """A place in the text where an answer is given: its marker begins at `begin`, its label is read from `behind`."""

    text: str
    begin: int
    behind: str
    is_box: bool = False

    @property
    def before(self) -> str:
        """The last characters before the marker, without what opens a formula."""
        return _DELIMITERS.sub("", self.text[max(0, self.begin - _TAIL) : self.begin])

    def read(self, form: LabelForm, *, is_cut: bool | None) -> tuple[str, str]:
        if self.is_box and form.equation and _OPERATOR_BEFORE.search(self.before):
            return "", NOT_AN_EQUATION  # a part of one
        return form.read(self.behind, is_cut=is_cut, in_brackets=self.before.endswith("("))

    @property
    def rationale(self) -> str:
        """What stands before; a sentence that ends in a box explains, too, with what is in the box."""
        if not self.is_box:
            return _tidied(self.text[: self.begin])
        before = self.text[: self.begin - _TAIL] if self.begin > _TAIL else ""
        before += self.before
        stub = re.split(r"[.!?:]\s|\n", self.before)[-1]
        if re.search(r"[^\W\d_]", stub) and not before.endswith((".", "!", "?", ":")):
            said = plain_text.without_marks(plain_text.plain(self.behind)).replace("$", "")
            before = f"{before} {said.partition(chr(10))[0].strip(' .')}."
        return _tidied(before)


def _own_text(output: str, next_question: str) -> str:
    """What stands before the invented next question, which begins a line; a rationale may well say 'Premise' itself."""
    text = output.lstrip()
    found = re.search(rf"\n[ \t*]*{re.escape(next_question)}", text)
    return (text[: found.start()] if found else text).rstrip()


def _pattern(marker: str) -> re.Pattern[str]:
    """The prompt's own marker, in any case, in bold, with or without a colon behind it."""
    words = [re.escape(word) for word in marker.rstrip(":").split()]
    colon = ":" if marker.rstrip().endswith(":") else ":?"
    before = r"(?<!\w)(?:(?:so|thus|hence|therefore),?\s+)?(?:(?:the\s+)?(?:final|correct)\s+)?"
    return re.compile(before + r"[\s,*]+".join(words) + rf"\**\s*{colon}\**", re.IGNORECASE)


def _marked(text: str, marker: re.Pattern[str]) -> list[_Answer]:
    """Every place behind a marker, up to the next one."""
    places = [*marker.finditer(text)]
    ends = [place.start() for place in places[1:]] + [len(text)]
    return [
        _Answer(text, place.start(), text[place.end() : end])
        for place, end in zip(places, ends, strict=False)
    ]


def _boxed(text: str) -> list[_Answer]:
    r"""Every \boxed{…}, with the rest of the line that it ends on."""
    answers = []
    for begin, end in plain_text.boxes(text):
        rest = text[end : end + _TAIL]
        answers.append(_Answer(text, begin, text[begin:end] + rest.partition("\n")[0], is_box=True))
    return answers


def _tidied(rationale: str) -> str:
    """Without bold, and without what heads the answer: an opening bracket, a heading, 'Answer:'."""
    rationale = rationale.replace("**", "").strip()
    while stub := _STUB.search(rationale, max(0, len(rationale) - _TAIL)):
        rationale = rationale[: stub.start()].rstrip()
    return rationale
