"""What `--teacher_option` says of an OpenAI-compatible server: which fields it wants, and which it refuses."""

import dataclasses
from collections.abc import Mapping
from typing import Any

_MAX_TOKENS_FIELD, _RESPONSE_FORMAT, _EXTRA_BODY = "max_tokens_field", "response_format", "extra_body"
_RESPONSE_FORMATS = ("json", "json_schema")
_MAY_BE_LEFT_OUT = ("temperature", "top_p", "stop", "seed")  # reasoning models of hosted servers refuse them
_NONE = "none"
_PASSED_ON = ("reasoning_effort", "verbosity", "service_tier")
_KNOWN = (_MAX_TOKENS_FIELD, _RESPONSE_FORMAT, _EXTRA_BODY, *_MAY_BE_LEFT_OUT, *_PASSED_ON)


@dataclasses.dataclass(frozen=True)
class Options:
    """What a request carries besides; all but the name of a field decides what is answered, so it goes into a request's key.

    Attributes:
      max_tokens_field: 'max_tokens', or 'max_completion_tokens'.
      response_format: 'json', 'json_schema', or '' for text.
      extra: fields of the body; None is for one that is left out.
    """

    max_tokens_field: str = "max_tokens"
    response_format: str = ""
    extra: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def read(options: Mapping[str, Any]) -> Options:
    """The options of NAME=VALUE pairs, checked.

    Raises:
      ValueError: names the one that is unknown or makes no sense.
    """
    if unknown := sorted(options.keys() - set(_KNOWN)):
        raise ValueError(
            f"--teacher_option {unknown[0]}: --teacher openai knows {', '.join(_KNOWN)}; other fields go into "
            f'{_EXTRA_BODY}={{"{unknown[0]}": …}}.'
        )
    extra = options.get(_EXTRA_BODY, {})
    if not isinstance(extra, Mapping):
        raise ValueError(
            f'--teacher_option {_EXTRA_BODY}={extra}: give a JSON object, such as {{"min_p": 0.1}}.'
        )
    response_format = options.get(_RESPONSE_FORMAT, "")
    if response_format not in ("", *_RESPONSE_FORMATS):
        raise ValueError(
            f"--teacher_option {_RESPONSE_FORMAT}={response_format}: use {' or '.join(_RESPONSE_FORMATS)}."
        )
    for name in _MAY_BE_LEFT_OUT:
        if options.get(name, _NONE) != _NONE:
            raise ValueError(
                f"--teacher_option {name}={options[name]}: none leaves the field out; a value is set by --{name}."
            )
    return Options(
        str(options.get(_MAX_TOKENS_FIELD, "max_tokens")),
        response_format,
        {
            **extra,
            **{name: None for name in _MAY_BE_LEFT_OUT if name in options},
            **{name: options[name] for name in _PASSED_ON if name in options},
        },
    )
