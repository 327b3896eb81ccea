"""Answers as JSON objects of a rationale and an answer: how a prompt asks for them, how a server is bound to them, how they are read.

{"rationale": "Hanna starts with 71 plums and gives away 18.", "answer": "(71 - 18)"}
"""

import json
import re
from collections.abc import Sequence
from typing import Any

from stepdistill_jax.teacher.answers.parsing import NO_LABEL, ParsedCompletion
from stepdistill_jax.teacher.prompting import taken_back
from stepdistill_jax.teacher.prompting.tolerant_parsing import LabelForm, parsed_completion

RESPONSE_FORMATS = ("json", "json_schema")
NO_OBJECT = "no JSON object"
WRONG_KEYS = "JSON object without rationale and answer"

_RATIONALE, _ANSWER = "rationale", "answer"


def _told_once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """An object; of a key that is there twice, JSON would take the last."""
    if len(pairs) > len(dict(pairs)):
        raise ValueError("a key is there twice")
    return dict(pairs)


# Numbers stay as they are written: as floats, 12.50 and long ones would change.
_DECODER = json.JSONDecoder(parse_float=str, parse_int=str, parse_constant=str, object_pairs_hook=_told_once)
_ANOTHER_ANSWER = re.compile(r"answer|correct|final|revis", re.IGNORECASE)  # keys that may say another one
_KEY = re.compile(r'"answer"\s*:')


def instruction(labels: Sequence[str], *, equation: bool) -> str:
    """What the prompt says of the answer's form."""
    if labels:
        what = f"one of {', '.join(json.dumps(label) for label in labels)}"
    else:
        what = "one equation of the problem's numbers, such as (8 - 3)" if equation else "the answer alone"
    return (
        f'Answer with one JSON object and nothing else: {{"{_RATIONALE}": "the reason, in one or two sentences", '
        f'"{_ANSWER}": "{_ANSWER}"}}. Its "{_ANSWER}" is {what}.'
    )


def answer_text(rationale: str, label: str) -> str:
    """What the model would have answered to a worked example."""
    return json.dumps({_RATIONALE: rationale, _ANSWER: label}, ensure_ascii=False)


def response_format(kind: str, labels: Sequence[str]) -> dict[str, Any]:
    """The field `response_format` of a request, in OpenAI's form.

    Args:
      kind: one of RESPONSE_FORMATS.
      labels: the only answers that the schema allows, or () for any text.
    """
    if kind == "json":
        return {"type": "json_object"}
    answer = {"type": "string", **({"enum": list(labels)} if labels else {})}
    schema = {
        "type": "object",
        "properties": {_RATIONALE: {"type": "string"}, _ANSWER: answer},
        "required": [_RATIONALE, _ANSWER],
        "additionalProperties": False,
    }
    return {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": schema}}


def is_object(text: str) -> bool:
    """Whether a text that nobody asked to be JSON begins as an object with an answer, fenced or not."""
    return re.match(r"\s*(?:```\w*\s*)?\{", text) is not None and _KEY.search(text) is not None


def parse(text: str, form: LabelForm, *, stand_in: str = "") -> ParsedCompletion:
    """The rationale and label of the one object in the text, or why there are none; see `parse_answer`."""
    before, fence, fenced = text.partition("```")
    text, _, behind = fenced.partition("```") if fence else (text, "", "")
    if _KEY.search(before if fence else "") or _KEY.search(behind):
        return ParsedCompletion("", "", NO_OBJECT)
    begin = text.find("{")
    try:
        found, end = _DECODER.raw_decode(text, begin) if begin >= 0 else (None, 0)
    except (ValueError, RecursionError):
        found, end = None, 0
    if not isinstance(found, dict) or "{" in text[end:]:
        return ParsedCompletion("", "", NO_OBJECT)
    if taken_back.is_taken_back(f"x{text[end:]}{behind}", any_text=False, equation=form.equation):
        return ParsedCompletion("", "", taken_back.TAKEN_BACK)
    rationale, answer = found.get(_RATIONALE), found.get(_ANSWER)
    others = [key for key in found if key not in (_RATIONALE, _ANSWER) and _ANOTHER_ANSWER.search(key)]
    if others or not isinstance(rationale, str) or not isinstance(answer, str):
        return ParsedCompletion("", "", WRONG_KEYS)
    label, reason = form.read(answer) if answer.strip() else ("", NO_LABEL)
    return parsed_completion(rationale.strip() or stand_in, label, reason)
