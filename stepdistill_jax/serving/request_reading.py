"""What a request to POST /predict says, or one sentence that names the field and the mend.

{"text": "…"}                                          one text: the answer is one prediction
{"texts": ["…", "…"], "rationale": true}               many: the answer is {"predictions": […]}, in their order
{"texts": […], "abstain_below": 0.8}                   labels less probable than that are null
"""

import dataclasses
import json
from typing import Any

from stepdistill_jax.base.messages import nearest
from stepdistill_jax.base.visible import is_blank

_FIELDS = ("text", "texts", "rationale", "abstain_below")
_SHOWN = 80  # characters of a name that there is not


class BadRequest(ValueError):
    """One line for whoever sent it."""


@dataclasses.dataclass(frozen=True)
class Request:
    """Attributes:
    texts: as the dataset words its inputs, without a task prefix.
    is_one: whether it was sent as "text".
    """

    texts: list[str]
    is_one: bool
    rationale: bool = False
    abstain_below: float = 0.0


def read_request(body: bytes, *, most_texts: int) -> Request:
    """Raises BadRequest for whatever is no request."""
    fields = _json_object(body)
    for name in fields:
        if name not in _FIELDS:
            raise BadRequest(f"{name[:_SHOWN]!r} is no field of a request{nearest(name[:_SHOWN], _FIELDS)}.")
    if ("text" in fields) == ("texts" in fields):
        raise BadRequest("A request has either 'text', a string, or 'texts', a list of strings.")
    is_one = "text" in fields
    texts = [fields["text"]] if is_one else fields["texts"]
    if not isinstance(texts, list):
        raise BadRequest(f"texts is a {_kind(texts)}; it must be a list of strings.")
    if not texts:
        raise BadRequest("texts is empty; send at least one text.")
    if len(texts) > most_texts:
        raise BadRequest(f"texts has {len(texts)} texts; send at most {most_texts} at once.")
    for index, text in enumerate(texts):
        _check_text(text, "text" if is_one else f"texts[{index}]")
    return Request(texts, is_one, _rationale(fields), _abstain_below(fields))


def _json_object(body: bytes) -> dict[str, Any]:
    if not body.strip():
        raise BadRequest('The body is empty; it must be an object, as {"text": "…"}.')
    try:
        value = json.loads(
            body.decode("utf-8"), parse_constant=_refuse_constant, object_pairs_hook=_without_twins
        )
    except UnicodeDecodeError as error:
        raise BadRequest(f"The body is not UTF-8 (byte {error.start}).") from error
    except BadRequest:
        raise
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"The body is no JSON: {error}.") from error
    if not isinstance(value, dict):
        raise BadRequest(f'The body is a {_kind(value)}; it must be an object, as {{"text": "…"}}.')
    return value


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object; of a name that stands in it twice, Python would take the last without a word."""
    fields: dict[str, Any] = {}
    for name, value in pairs:
        if name in fields:
            raise BadRequest(f"{name[:_SHOWN]!r} stands twice in an object; send it once.")
        fields[name] = value
    return fields


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


def _check_text(text: Any, name: str) -> None:
    if not isinstance(text, str):
        raise BadRequest(f"{name} is a {_kind(text)}; it must be a string.")
    if is_blank(text):
        raise BadRequest(f"{name} is {'blank' if text else 'empty'}; there is nothing to predict from.")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise BadRequest(f"{name} has half a surrogate pair at character {error.start}.") from error


def _rationale(fields: dict[str, Any]) -> bool:
    value = fields.get("rationale", False)
    if not isinstance(value, bool):
        raise BadRequest(f"rationale is a {_kind(value)}; it must be true or false.")
    return value


def _abstain_below(fields: dict[str, Any]) -> float:
    value = fields.get("abstain_below", 0.0)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise BadRequest("abstain_below must be a number from 0 to 1.")
    return float(value)


def _kind(value: Any) -> str:
    names = {dict: "object", list: "list", str: "string", bool: "boolean", type(None): "null"}
    return names.get(type(value), "number")
