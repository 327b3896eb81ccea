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
from stepdistill_jax.teacher.prompting import plain_text, taken_back
from stepdistill_jax.teacher.prompting.choice_reading import read_choice
from stepdistill_jax.teacher.prompting.equation_reading import NOT_AN_EQUATION, read_equation, values_below

if TYPE_CHECKING:
    from stepdistill_jax.datasets import CompletionFormat

_TAIL = 200  # characters, to be looked at before and behind a place
_LONGEST_REST = 4000  # characters, behind a box
_MOST_PLACES = 50  # of answers in one text; beyond, a model repeats itself
_QUOTES = "\"'“”‘’«»`*_ \t\n"
_PAIRS = (
    ("$", "$"),
    ("**", "**"),
    ("*", "*"),
    ("__", "__"),
    ("_", "_"),
    ("`", "`"),
    ('"', '"'),
    ("'", "'"),
    ("“", "”"),
    ("‘", "’"),
    ("«", "»"),
)
# Markers of other prompts, which models write by habit; taken where the prompt's own is not there.
_FINAL = re.compile(
    r"(?<!\w)(?:so,?\s+)?(?:(?:the|my)\s+)?final\s+answer\**(?:\s+is)?\s*:?\**\s*", re.IGNORECASE
)
_HABITUAL = re.compile(
    r"(?<!\w)(?:so,?\s+)?(?:the\s+(?:correct\s+)?answer\**\s+is\**\s*:?\**|(?:correct\s+)?answer\**:\**)\s*",
    re.IGNORECASE,
)
# Before a box: an operator, a command that holds it, or words that make another number of what is in it.
_PART_BEFORE = re.compile(
    r"(?:[-+*/×÷·−^\d]|\\times|\\cdot|\\div)[\s({]*$|\\(?!text|math|mbox)[a-z]+(?:\{[^{}]*\})*\s*\{\s*$"
    r"|\b(?:minus|negative|plus|times|by|twice|double|triple|thrice|not|never|about|around|approximately|roughly|nearly|almost|over|under"
    r"|below|above|(?:less|more|fewer) than|at (?:least|most)|between|or|(?:half|halves|thirds?|quarters?|fourths?|fifths?)(?: of)?(?: the)?)\s*$",
    re.IGNORECASE,
)
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
        if plain_text.HOLDING.search(text):
            text = plain_text.without_marks(plain_text.plain(re.sub(r"(?<!\\)\$", "", text)))
        lines = [line for line in text.splitlines() if line.strip(_QUOTES + ".:")]
        label = _unquoted(lines[0]) if lines else ""
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
    others = [answer for found in kinds[1:] for answer in found if answer not in answers]
    if not any(kinds[2:3]):
        others += [answer for answer in _marked(text, _HABITUAL) if answer.is_behind(answers[-1])]
    again = [(other, other.read(form, is_cut=is_cut)) for other in others]
    counted = [
        said for other, said in again if not said[1] or (said[1] != NO_LABEL and other.is_behind(answers[-1]))
    ]
    meanings = {form.meaning(label) for label, reason in readings + counted}
    if len(meanings) > 1:
        return ParsedCompletion("", "", TWO_MARKERS)
    if form.equation and not readings[0][1] and _says_another_value(answers, others, readings[0][0]):
        return ParsedCompletion("", "", TWO_MARKERS)
    if not readings[0][1] and _is_taken_back(answers, others, form):
        return ParsedCompletion("", "", taken_back.TAKEN_BACK)
    return parsed_completion(answers[0].rationale or stand_in, *readings[0])


def parsed_completion(rationale: str, label: str, reason: str) -> ParsedCompletion:
    """What was read, which teaches nothing without a rationale."""
    if reason or rationale:
        return ParsedCompletion(rationale, label, reason)
    return ParsedCompletion("", "", NO_RATIONALE)


def _says_another_value(answers: "Sequence[_Answer]", others: "Sequence[_Answer]", label: str) -> bool:
    """Whether a line below the last answer gives another result than the equation's."""
    last = max([*answers, *others], key=lambda answer: answer.begin)
    value = equations.evaluate(label)
    return any(not equations.values_match(below, value) for below in values_below(last.behind))


def _is_taken_back(answers: "Sequence[_Answer]", others: "Sequence[_Answer]", form: LabelForm) -> bool:
    """Whether the text itself denies one of its answers, or thinks again after the last one."""
    if any(taken_back.is_doubted(answer.text, answer.begin) for answer in answers):
        return True
    last = max([*answers, *others], key=lambda answer: answer.begin)
    any_text = not (form.equation or form.choices)
    return taken_back.is_taken_back(last.behind, any_text=any_text, equation=form.equation)


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

    def is_behind(self, other: "_Answer") -> bool:
        """Whether it stands behind the other; a box on the other's line is a part of it."""
        line_end = self.text.find("\n", other.begin + 1) if self.is_box else other.begin
        return self.begin > line_end >= 0

    def read(self, form: LabelForm, *, is_cut: bool | None) -> tuple[str, str]:
        if self.is_box and form.equation and _PART_BEFORE.search(self.before):
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


def _unquoted(line: str) -> str:
    """Without quotes, bold and a full stop around it. A mark at one end alone is the text's own, but for bold or a quote opened before it."""
    line = line.strip()
    line = line[:-1] if line.endswith(('."', ".'", ".”")) and not set(line[:-1]) & set("\"'“") else line
    before = ""
    while line != before:
        before, line = line, line.removesuffix(".").strip()
        line = line.removesuffix("**") if line.count("**") == 1 else line
        for opens, closes in _PAIRS:
            inside = line[len(opens) : -len(closes)]
            if line == f"{opens}{inside}{closes}" and opens not in inside and closes not in inside:
                line = inside.strip()
    return line


def _own_text(output: str, next_question: str) -> str:
    """What stands before the invented next question, which begins a line; a rationale may well say 'Premise' itself."""
    text = output.lstrip()
    found = re.search(rf"\n[ \t*]*{re.escape(next_question)}", text)
    return (text[: found.start()] if found else text).rstrip()


def _pattern(marker: str) -> re.Pattern[str]:
    """The prompt's own marker, in any case, in bold, with or without a colon behind it."""
    words = [re.escape(word) for word in marker.rstrip(":").split()]
    colon = r"\s*:" if marker.rstrip().endswith(":") else r"(?:\s*:)?"
    before = r"(?<!\w)(?:(?:so|thus|hence|therefore),?\s+)?(?:(?:the\s+)?(?:final|correct)\s+)?"
    return re.compile(before + r"[\s,*]+".join(words) + rf"\**{colon}\**", re.IGNORECASE)


def _marked(text: str, marker: re.Pattern[str]) -> list[_Answer]:
    """Every place behind a marker, up to the next one."""
    places = [*marker.finditer(text)]
    ends = [place.start() for place in places[1:]] + [len(text)]
    return [
        _Answer(text, place.start(), text[place.end() : end])
        for place, end in zip(places, ends, strict=False)
    ]


def _boxed(text: str) -> list[_Answer]:
    r"""Every \boxed{…}, with what stands behind it."""
    answers = []
    for begin, end in plain_text.boxes(text):
        answers.append(_Answer(text, begin, text[begin : end + _LONGEST_REST], is_box=True))
    return answers


def _tidied(rationale: str) -> str:
    """Without bold, and without what heads the answer: an opening bracket, a heading, 'Answer:'."""
    rationale = rationale.replace("**", "").strip()
    while stub := _STUB.search(rationale, max(0, len(rationale) - _TAIL)):
        rationale = rationale[: stub.start()].rstrip()
    return rationale
