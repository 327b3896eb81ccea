"""Examples to prompts, and a language model's replies to rationale and label."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stepdistill_jax.teacher.language_model import LanguageModel, Prompting, Verdict
from stepdistill_jax.teacher.parsing import ParsedCompletion, parse_completion
from stepdistill_jax.teacher.requests import Answer, Message, Reply, Request, Sampling

if TYPE_CHECKING:
    from stepdistill_jax.datasets import Dataset, Example


@dataclass(frozen=True)
class PromptSettings:
    """Everything that decides what is asked and how answers are read."""

    temperature: float = 0.0
    max_tokens: int = 256
    top_p: float = 1.0
    seed: int | None = None


def make_prompting(
    dataset: "Dataset",
    *,
    model: LanguageModel,
    settings: PromptSettings,
    labels: Sequence[str],
    examples: Callable[[], Iterable["Example"]],
) -> Prompting:
    """The prompting of these settings, checked: a setting that can't work is refused here, before the first request.

    Args:
      labels: the only labels of the task, or () if any text may be one.
      examples: gives all examples to be labelled, anew at each call.
    """
    return ZeroShot(dataset, model=model, settings=settings, labels=labels)


class ZeroShot:
    """Asks for reasoning and the answer behind the dataset's marker, without worked examples."""

    def __init__(
        self, dataset: "Dataset", *, model: LanguageModel, settings: PromptSettings, labels: Sequence[str]
    ):
        self._format, self._labels, self._model = dataset.completion, tuple(labels), model
        self._sampling = Sampling(
            settings.temperature, settings.max_tokens, settings.top_p, (dataset.completion.next_question,)
        )
        self._instruction = (
            f"Think step by step, then end with '{dataset.completion.answer_marker}' and the answer."
        )
        self.prompt_hash = hashlib.sha256(self._instruction.encode()).hexdigest()
        self.settings: Mapping[str, Any] = {"prompt": "zero-shot", "sampling": self._sampling.as_dict()}

    def requests(self, example: "Example", replies: Mapping[str, Reply]) -> Sequence[Request]:
        text = f"{example.inputs}\n\n{self._instruction}"
        prompt = (Message("user", text),) if self._model.chat else f"{text}\n"
        return [Request(example.example_id, self._model.model, prompt, self._sampling)]

    def read(self, example: "Example", replies: Mapping[str, Reply]) -> Verdict:
        (reply,) = replies.values()
        if not isinstance(reply, Answer):
            return Verdict(ParsedCompletion("", "", reply.kind), None)
        parsed = parse_completion(reply.text, self._format, labels=self._labels)
        return Verdict(parsed, reply, json.dumps(self._sampling.as_dict(), sort_keys=True))
