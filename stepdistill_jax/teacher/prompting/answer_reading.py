"""An answer as the server sent it -> rationale and label: thoughts apart, and every way to say nothing by its name."""

import dataclasses
from typing import TYPE_CHECKING

from stepdistill_jax.teacher.answers import mends
from stepdistill_jax.teacher.answers.parsing import ParsedCompletion
from stepdistill_jax.teacher.answers.requests import FILTERED, REFUSAL, Answer
from stepdistill_jax.teacher.answers.thoughts import Parts, first_sentences, split_thoughts
from stepdistill_jax.teacher.prompting import json_answers
from stepdistill_jax.teacher.prompting.tolerant_parsing import LabelForm, parse_answer

if TYPE_CHECKING:
    from stepdistill_jax.datasets import CompletionFormat


@dataclasses.dataclass(frozen=True)
class Reading:
    """How answers are read.

    Attributes:
      completion_format: of the dataset, or of the prompt's file.
      is_chat: whether the server renders a chat's template, which may open the tag of the thoughts itself. A cut answer
        without the closing tag may then be nothing but thoughts, so no label is read from it.
      as_json: whether the prompt asks for a JSON object.
      thoughts_as_rationale: whether the thoughts stand for a rationale that the answer itself lacks.
      max_thought_words: to which they are cut then, at the end of a sentence; 0 takes all.
    """

    completion_format: "CompletionFormat"
    is_chat: bool = False
    as_json: bool = False
    thoughts_as_rationale: bool = False
    max_thought_words: int = 0

    def read(self, answer: Answer, form: LabelForm) -> ParsedCompletion:
        """The rationale and label of an answer, or why there are none."""
        parts = split_thoughts(answer)
        if reason := _says_nothing(answer, parts):
            return ParsedCompletion("", "", reason)
        if self.is_chat and answer.is_cut and not parts.thoughts:
            return ParsedCompletion("", "", mends.CUT)
        # A server that gives no reason for the end leaves open whether the answer was cut.
        is_cut = answer.is_cut if answer.finish_reason else None
        stand_in = (
            first_sentences(parts.thoughts, self.max_thought_words) if self.thoughts_as_rationale else ""
        )
        if self.as_json or json_answers.is_object(parts.text):
            parsed = json_answers.parse(parts.text, form, stand_in=stand_in)
        else:
            parsed = parse_answer(parts.text, self.completion_format, form, is_cut=is_cut, stand_in=stand_in)
        if parsed.unparsed_reason and is_cut:
            return ParsedCompletion(parsed.rationale, "", mends.CUT)
        return parsed


def _says_nothing(answer: Answer, parts: Parts) -> str:
    """Why there is nothing to be parsed, '' if there is something."""
    if answer.finish_reason == FILTERED:
        return mends.FILTERED
    if answer.finish_reason == REFUSAL:
        return mends.REFUSED
    if parts.text:
        return ""
    # Hosted reasoning models don't show their thoughts; that the budget ended before the first word tells of them.
    if answer.is_cut or (parts.is_open and not answer.finish_reason):
        return mends.SPENT
    return mends.UNENDED if parts.thoughts or parts.is_open else mends.EMPTY
