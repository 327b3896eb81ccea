"""The teacher: prepared examples in, rationales and labels out, as TFRecords. Each name loads at its first use."""

import importlib
from typing import Any

_MODULES = {
    "Answer": "requests",
    "BatchEngine": "language_model",
    "Batched": "batching",
    "Completion": "completions",
    "JobSettings": "job_settings",
    "JobStopped": "stopping",
    "LanguageModel": "language_model",
    "Message": "requests",
    "ModelSettings": "teachers",
    "ParsedCompletion": "parsing",
    "Prices": "job_settings",
    "PromptSettings": "prompting",
    "Prompting": "language_model",
    "RecordedTeacher": "recorded",
    "Request": "requests",
    "RequestError": "requests",
    "Sampling": "requests",
    "Score": "scoring",
    "Shard": "job_settings",
    "Skipped": "completions",
    "Teacher": "completions",
    "UNPARSED_REASONS": "parsing",
    "Verdict": "language_model",
    "WorkedTeacher": "worked",
    "parse_completion": "parsing",
    "rationales_folder": "records",
    "score": "scoring",
    "score_records": "scoring",
    "teach": "job",
}
__all__ = list(_MODULES)


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
