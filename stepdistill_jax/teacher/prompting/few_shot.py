"""Examples to prompts, and a language model's replies to rationale and label."""

import copy
import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stepdistill_jax.base.messages import say_once
from stepdistill_jax.datasets import labels_match
from stepdistill_jax.teacher.answers.language_model import LanguageModel, Prompting, Verdict
from stepdistill_jax.teacher.answers.parsing import ParsedCompletion
from stepdistill_jax.teacher.answers.requests import Answer, Reply, Request, Sampling
from stepdistill_jax.teacher.prompting import json_answers, prompt_files, quality, rendering, zero_shot
from stepdistill_jax.teacher.prompting.answer_reading import Reading
from stepdistill_jax.teacher.prompting.quality import QualityRules
from stepdistill_jax.teacher.prompting.tolerant_parsing import LabelForm

if TYPE_CHECKING:
    from stepdistill_jax.datasets import Dataset, Example

RATIONALISED = "rationale written with the gold label as hint"


@dataclass(frozen=True)
class PromptSettings:
    """Everything that decides what is asked and how answers are read.

    Attributes:
      prompt: a file of worked examples (`prompt_files`), or the name of one of the package's own, such as 'cqa'; '' takes
        the dataset's, and asks zero-shot where there is none.
      shots: how many worked examples are shown, the first ones; None shows all, 0 asks zero-shot.
      style: 'turns', 'message' or 'text' (`rendering.Style`); '' takes turns for a chat model, text for another.
      temperature, max_tokens, top_p: see `requests.Sampling`.
      seed: of the first sample; the next one's is one more. None leaves it to the model.
      stop: strings that end an answer; () takes those of the prompt.
      rules: which answers students learn from.
      rationale_from: 'answer', or 'thoughts' where the answer has no rationale of its own.
    """

    prompt: str = ""
    shots: int | None = None
    style: str = ""
    temperature: float = 0.0
    max_tokens: int = 256
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    rules: QualityRules = dataclasses.field(default_factory=QualityRules)
    rationale_from: str = "answer"


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

    Raises:
      ValueError: for a malformed prompt file, one that shows a question to be labelled, and settings that don't fit.
    """
    prompt = _read_prompt(dataset, settings, labels)
    shots = _shots(prompt, settings)
    shown = prompt_files.shown_rows(dataclasses.replace(prompt, exemplars=shots), examples())
    # What the model's requests carry besides; see `LanguageModel`. Null leaves a field to the server.
    extra = dict(getattr(model, "extra", {}))
    if settings.temperature != 0.0 and "temperature" in extra:
        raise ValueError(
            f"--temperature={settings.temperature:g} and --teacher_option temperature=none: give one of them."
        )
    if settings.rules.samples > 1 and settings.temperature == 0.0 and "temperature" not in extra:
        raise ValueError(
            f"--samples={settings.rules.samples} at --temperature=0 are the same answer every time; set --temperature=0.7."
        )
    if response_format := getattr(model, "response_format", ""):
        asked = json_answers.instruction(labels, equation=dataset.metric == "equation")
        prompt = dataclasses.replace(prompt, json_instruction=asked)
        extra["response_format"] = json_answers.response_format(response_format, labels)
    return FewShot(
        dataset,
        prompt=prompt,
        shots=shots,
        style=_style(settings.style, chat=model.chat),
        model=model.model,
        settings=settings,
        extra=json.dumps(extra, sort_keys=True) if extra else "",
        labels=labels,
        left_out=shown,
    )


def _read_prompt(
    dataset: "Dataset", settings: PromptSettings, labels: Sequence[str]
) -> prompt_files.PromptFile:
    path = prompt_files.find(settings.prompt, dataset.name)
    if path:
        return prompt_files.read_prompt_file(path, dataset)
    say_once(zero_shot.notice(dataset, labels))
    return zero_shot.prompt_of(dataset, labels)


def _shots(prompt: prompt_files.PromptFile, settings: PromptSettings) -> tuple[prompt_files.Exemplar, ...]:
    if settings.shots is None:
        return prompt.exemplars
    if not 0 <= settings.shots <= len(prompt.exemplars):
        raise ValueError(
            f"--shots={settings.shots}, but {prompt.path} has {len(prompt.exemplars)} worked examples; use 0 to "
            f"{len(prompt.exemplars)}, or write more."
        )
    return prompt.exemplars[: settings.shots]


def _style(style: str, *, chat: bool) -> rendering.Style:
    if not style:
        return "turns" if chat else "text"
    if style not in rendering.STYLES:
        raise ValueError(f"--prompt_style={style}; use {', '.join(rendering.STYLES)}.")
    if (style == "text") == chat:
        asked = "a chat" if chat else "a text to continue"
        raise ValueError(
            f"--prompt_style={style}, but the model is asked by {asked}; change --api, or leave --prompt_style out."
        )
    return style


class FewShot:
    """Asks with worked examples (or none), as often as the rules want, and reads the replies by them.

    left_out: ids of the training rows that are its worked examples, so that they are not asked for.
    """

    def __init__(
        self,
        dataset: "Dataset",
        *,
        prompt: prompt_files.PromptFile,
        shots: Sequence[prompt_files.Exemplar],
        style: rendering.Style,
        model: str,
        settings: PromptSettings,
        extra: str,
        labels: Sequence[str],
        left_out: frozenset[str] = frozenset(),
    ):
        self.left_out = left_out
        self._dataset, self._prompt, self._shots, self._style = dataset, prompt, tuple(shots), style
        self._model, self._labels, self._rules = model, tuple(labels), settings.rules
        self._format = prompt.completion_format(dataset)
        self._reading = Reading(
            self._format,
            is_chat=style != "text",
            as_json=bool(prompt.json_instruction),
            thoughts_as_rationale=settings.rationale_from == "thoughts",
            max_thought_words=settings.rules.max_rationale_words,
        )
        self.follows_up = self._rules.rationalise
        self._duplicates = quality.Duplicates()
        self._sampling = Sampling(
            settings.temperature,
            settings.max_tokens,
            settings.top_p,
            settings.stop or rendering.stop_strings(prompt, self._format.next_question),
            settings.seed,
            extra,
        )
        self.prompt_hash = self._hash()
        self.settings: Mapping[str, Any] = {
            "prompt": prompt.path.name,
            "shots": len(self._shots),
            "style": style,
            "sampling": self._sampling.as_dict(),
            "answer_marker": self._format.answer_marker,
            "next_question": self._format.next_question,
            "rules": dataclasses.asdict(self._rules),
            "rationale_from": settings.rationale_from,
        }

    def anew(self) -> "FewShot":
        """The same, which has read nothing yet."""
        other = copy.copy(self)
        other._duplicates = quality.Duplicates()
        return other

    def requests(self, example: "Example", replies: Mapping[str, Reply]) -> Sequence[Request]:
        wanted = self._samples(example)
        if self._rules.rationalise and all(request.key in replies for request in wanted):
            parsed, _ = self._decide(example, [replies[request.key] for request in wanted])
            if example.label is not None and not self._is_right(example, parsed):
                wanted.append(self._hinted(example))
        return wanted

    def read(self, example: "Example", replies: Mapping[str, Reply]) -> Verdict:
        samples = [replies[request.key] for request in self._samples(example)]
        parsed, vote = self._decide(example, samples)
        answer = _first_answer(samples) if vote is None else samples[vote.chosen]
        facts: dict[str, Any] = dict(self._sampling.as_dict())
        if self._rules.samples > 1:
            facts |= {"samples": self._rules.samples, "votes": vote.votes if vote else 0}
        hint = None
        if self._rules.rationalise and example.label is not None:
            hint = replies.get(self._hinted(example).key)
        if isinstance(hint, Answer):
            rationalised = self._parse(example, hint)
            if self._is_right(example, rationalised):
                parsed, answer = rationalised, hint
                facts["hinted"] = True
        if not isinstance(answer, Answer):
            return Verdict(parsed, None)
        return Verdict(
            parsed,
            answer,
            json.dumps(facts, sort_keys=True),
            self._dropped(example, parsed, vote, facts),
            notes=(RATIONALISED,) if facts.get("hinted") else (),
        )

    def _samples(self, example: "Example") -> list[Request]:
        return [
            self._request(example, self._render(example.inputs), sample)
            for sample in range(self._rules.samples)
        ]

    def _hinted(self, example: "Example") -> Request:
        return self._request(example, self._render(example.inputs, example.label), 0)

    def _request(self, example: "Example", prompt: Any, sample: int) -> Request:
        seed = None if self._sampling.seed is None else self._sampling.seed + sample
        sampling = dataclasses.replace(self._sampling, seed=seed)
        return Request(example.example_id, self._model, prompt, sampling, sample)

    def _render(self, inputs: str, hinted_label: str | None = None) -> Any:
        return rendering.render(
            self._prompt, inputs, shots=self._shots, style=self._style, hinted_label=hinted_label
        )

    def _hash(self) -> str:
        """Of all that every prompt has in common: instruction, worked examples, style, stop strings, and the hint."""
        parts = [self._render("{inputs}"), self._sampling.stop]
        if self._rules.rationalise:
            parts.append(self._render("{inputs}", "{label}"))
        text = json.dumps(parts, default=dataclasses.asdict, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def _parse(self, example: "Example", reply: Reply) -> ParsedCompletion:
        if not isinstance(reply, Answer):
            return ParsedCompletion("", "", reply.kind)
        choices = self._labels or example.choices
        lettered = bool(choices) and f"(a) {choices[0]}" in example.inputs
        form = LabelForm(choices, lettered=lettered, equation=self._dataset.metric == "equation")
        return self._reading.read(reply, form)

    def _decide(
        self, example: "Example", samples: Sequence[Reply]
    ) -> tuple[ParsedCompletion, quality.Vote | None]:
        """The majority's answer; where no sample was parsed, the first one's reason."""
        parsed = [self._parse(example, reply) for reply in samples]
        vote = quality.majority(parsed, equation=self._dataset.metric == "equation")
        if vote is not None:
            return parsed[vote.chosen], vote
        answered = [p for p, reply in zip(parsed, samples, strict=True) if isinstance(reply, Answer)]
        return (answered or parsed)[0], None

    def _is_right(self, example: "Example", parsed: ParsedCompletion) -> bool:
        return not parsed.unparsed_reason and labels_match(self._dataset, parsed.label, example.label or "")

    def _dropped(
        self,
        example: "Example",
        parsed: ParsedCompletion,
        vote: quality.Vote | None,
        facts: Mapping[str, Any],
    ) -> str:
        hinted = bool(facts.get("hinted"))
        votes = self._rules.samples if hinted or vote is None else vote.votes  # a hint is not put to the vote
        reason = quality.dropped_reason(
            parsed, rules=self._rules, dataset=self._dataset, gold=example.label, votes=votes
        )
        if reason or parsed.unparsed_reason or not self._rules.drop_duplicates:
            return reason
        return quality.DUPLICATE if self._duplicates.seen_before(example.split, parsed.rationale) else ""


def _first_answer(samples: Sequence[Reply]) -> Reply:
    return next((reply for reply in samples if isinstance(reply, Answer)), samples[0])
