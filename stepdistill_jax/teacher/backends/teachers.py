"""Teachers by name: `openai:gpt-4o` on the command line is `openai_teacher.make('gpt-4o', settings)`."""

import importlib
from dataclasses import dataclass, field
from typing import Any

from stepdistill_jax.teacher.answers.language_model import LanguageModel

# What stands before the colon -> module with `make(model: str, settings: ModelSettings) -> LanguageModel`.
_MODULES = {
    "openai": "stepdistill_jax.teacher.backends.openai_teacher",
    "smollm2": "stepdistill_jax.teacher.backends.smollm2",
    "t5x": "stepdistill_jax.teacher.backends.t5x_teacher",
    "vllm": "stepdistill_jax.teacher.backends.vllm_teacher",
}


@dataclass(frozen=True)
class ModelSettings:
    """Where and how a language model is reached; nothing here changes what it answers.

    Attributes:
      base_url: of a server, such as 'http://127.0.0.1:8000/v1'; '' takes the teacher's own default.
      api: 'chat' or 'completions'; '' takes the teacher's own default.
      api_key_env: the environment variable that holds the key.
      timeout_seconds: of one request.
      concurrency: requests at once, at most.
      asks: whether anything will be asked; without, no key, server or package need be there.
      options: of the teacher's own, from --teacher_option NAME=VALUE; passed through.
    """

    base_url: str = ""
    api: str = ""
    api_key_env: str = "OPENAI_API_KEY"
    timeout_seconds: float = 600.0
    concurrency: int = 32
    asks: bool = True
    options: dict[str, Any] = field(default_factory=dict)


def make_language_model(teacher: str, settings: ModelSettings) -> LanguageModel:
    """The language model of 'KIND:MODEL' (or 'KIND', where the kind has one model), not started yet.

    'own:MODULE:CLASS' is a class of one's own: it is called with the settings.

    Raises:
      ValueError: for an unknown kind, and for settings that the teacher refuses.
    """
    kind, _, model = teacher.partition(":")
    if kind == "own":
        return _own(model, settings)
    if kind not in _MODULES:
        known = ", ".join(f"{name}:MODEL" for name in _MODULES)
        raise ValueError(
            f"No teacher '{teacher}'; use {known}, own:MODULE:CLASS, recorded (with --from) or worked."
        )
    return importlib.import_module(_MODULES[kind]).make(model, settings)


def is_language_model(teacher: str) -> bool:
    """Whether the name is one of a language model, rather than 'recorded' or 'worked'."""
    return teacher not in ("recorded", "worked")


def _own(path: str, settings: ModelSettings) -> LanguageModel:
    module, _, name = path.partition(":")
    try:
        return getattr(importlib.import_module(module), name)(settings)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"--teacher own:{path}: {error}; give own:MODULE:CLASS, with MODULE on PYTHONPATH."
        ) from error
