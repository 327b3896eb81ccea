"""The teacher: prepared examples in, rationales and labels out, as TFRecords. Each name loads at its first use."""

import importlib
from typing import Any

_MODULES = {
    "Answer": "answers.requests",
    "BatchEngine": "answers.language_model",
    "Batched": "backends.batching",
    "Completion": "answers.completions",
    "JobSettings": "asking.job_settings",
    "JobStopped": "asking.stopping",
    "LanguageModel": "answers.language_model",
    "Message": "answers.requests",
    "ModelSettings": "backends.teachers",
    "NothingParsed": "answers.records",
    "ParsedCompletion": "answers.parsing",
    "Prices": "asking.job_settings",
    "PromptSettings": "prompting.few_shot",
    "Prompting": "answers.language_model",
    "RecordedTeacher": "backends.recorded",
    "Request": "answers.requests",
    "RequestError": "answers.requests",
    "Sampling": "answers.requests",
    "Score": "answers.scoring",
    "ServerGone": "asking.outages",
    "Shard": "asking.job_settings",
    "Skipped": "answers.completions",
    "Teacher": "answers.completions",
    "UNPARSED_REASONS": "answers.parsing",
    "Verdict": "answers.language_model",
    "WorkedTeacher": "backends.worked",
    "parse_completion": "answers.parsing",
    "rationales_folder": "answers.records",
    "score": "answers.scoring",
    "score_records": "answers.scoring",
    "teach": "job",
}
__all__ = list(_MODULES)


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
