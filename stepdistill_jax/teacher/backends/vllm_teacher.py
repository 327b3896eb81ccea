"""The teacher `vllm:MODEL`: vLLM's batch engine in this process, where vLLM is installed. Imported only when it is used.

Every --teacher_option but the two below goes to `vllm.LLM`: tensor_parallel_size=8, dtype=bfloat16, max_model_len=4096, …
Names are those of vLLM's documentation of offline inference (`LLM.generate`, `LLM.chat`, `SamplingParams`).
"""

import contextlib
import importlib
import importlib.util
import json
import re
from collections.abc import Sequence
from typing import Any

from stepdistill_jax.teacher.answers.language_model import LanguageModel
from stepdistill_jax.teacher.answers.requests import Answer, Request, RequestError
from stepdistill_jax.teacher.backends.batching import Batched
from stepdistill_jax.teacher.backends.teachers import ModelSettings

MAX_BATCH = 1024  # requests in one call; vLLM schedules them as its memory allows


def make(model: str, settings: ModelSettings) -> LanguageModel:
    """The teacher; `max_batch=N` is our own option.

    Raises:
      ValueError: if no model is named, or vLLM is not installed.
    """
    if not model:
        raise ValueError(
            "--teacher vllm: names no model; write vllm:MODEL, a name or folder that vLLM takes."
        )
    if settings.asks and importlib.util.find_spec("vllm") is None:
        raise ValueError(
            "--teacher vllm: the package vllm is not installed here: pip install vllm, or ask its server by openai:MODEL."
        )
    return Batched(VLLMEngine(model, settings))


class VLLMEngine:
    """vLLM as a BatchEngine."""

    def __init__(self, model: str, settings: ModelSettings):
        options = {name: _typed(value) for name, value in settings.options.items()}
        self.max_batch = options.pop("max_batch", MAX_BATCH)
        if not isinstance(self.max_batch, int) or self.max_batch < 1:
            raise ValueError(f"--teacher_option max_batch={self.max_batch}: use a whole number above 0.")
        self.name = f"vllm-{re.sub(r'[^A-Za-z0-9._-]+', '-', model).strip('-')}"
        self.model = model
        self.chat = (settings.api or "chat") == "chat"
        self._options = options
        self._llm: Any = None

    def start(self) -> None:
        vllm = importlib.import_module("vllm")
        try:
            self._llm = vllm.LLM(model=self.model, **self._options)
        except TypeError as error:  # an argument that vLLM doesn't know
            raise ValueError(f"--teacher_option: vLLM takes these settings otherwise ({error}).") from error

    def answer_batch(self, requests: Sequence[Request]) -> Sequence[Answer | RequestError]:
        try:
            return [self._answer(output) for output in self._outputs(requests)]
        except ValueError as error:
            # vLLM refuses a whole call for one prompt that is too long: ask one by one to find out which.
            if len(requests) == 1:
                return [RequestError("refused by vLLM", " ".join(str(error).split()))]
            return [answer for request in requests for answer in self.answer_batch([request])]

    def stop(self) -> None:
        """Lets go of the engine, which frees its memory and ends its workers."""
        llm, self._llm = self._llm, None
        engine = getattr(llm, "llm_engine", None)
        core = getattr(engine, "engine_core", None)
        if hasattr(core, "shutdown"):
            with contextlib.suppress(RuntimeError):
                core.shutdown()

    def _outputs(self, requests: Sequence[Request]) -> Sequence[Any]:
        sampling = [self._sampling(request) for request in requests]
        if self.chat:
            conversations = [
                [{"role": message.role, "content": message.content} for message in request.prompt]
                for request in requests
            ]
            return self._llm.chat(conversations, sampling_params=sampling, use_tqdm=False)
        return self._llm.generate(
            [request.prompt for request in requests], sampling_params=sampling, use_tqdm=False
        )

    def _sampling(self, request: Request) -> Any:
        vllm = importlib.import_module("vllm")
        sampling = request.sampling
        settings = {
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_tokens,
            "stop": list(sampling.stop),
            "seed": sampling.seed,
        }
        # Of later fields, such as a server's extra body, vLLM's sampling knows the same names.
        extra = json.loads(getattr(sampling, "extra", "") or "{}")
        return vllm.SamplingParams(**settings, **extra)

    def _answer(self, output: Any) -> Answer:
        best = output.outputs[0]
        return Answer(
            text=best.text,
            finish_reason=best.finish_reason or "",
            prompt_tokens=len(output.prompt_token_ids or ()),
            completion_tokens=len(best.token_ids),
            model=self.model,
        )


def _typed(value: Any) -> Any:
    """'8' -> 8, 'true' -> True, '{"a": 1}' -> a dict; what is no JSON stays text."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except json.JSONDecodeError:
        return value
