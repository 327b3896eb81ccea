"""vLLM's engine as a teacher, on a small module that stands in for the part of vLLM's public API that is used."""

import asyncio
import importlib.machinery
import sys
import types
from types import SimpleNamespace
from typing import ClassVar

import pytest

from stepdistill_jax.teacher.answers.requests import Message, Request, RequestError, Sampling
from stepdistill_jax.teacher.backends import vllm_teacher
from stepdistill_jax.teacher.backends.teachers import ModelSettings, make_language_model


class SamplingParams:
    """vLLM's, as its documentation of sampling parameters names them; anything else is an error there, too."""

    def __init__(self, *, temperature=1.0, top_p=1.0, max_tokens=16, stop=None, seed=None):
        self.temperature, self.top_p, self.max_tokens, self.stop, self.seed = (
            temperature, top_p, max_tokens, stop, seed,
        )  # fmt: skip


class LLM:
    """Echoes; refuses prompts that hold 'too long', as vLLM refuses a whole call."""

    made: ClassVar[list] = []

    def __init__(self, model, tensor_parallel_size=1, dtype="auto", max_model_len=None):
        self.settings = (model, tensor_parallel_size, dtype, max_model_len)
        self.calls = []
        LLM.made.append(self)

    def generate(self, prompts, sampling_params=None, *, use_tqdm=True):
        return self._outputs("text", prompts, sampling_params)

    def chat(self, messages, sampling_params=None, use_tqdm=True):
        return self._outputs("chat", [turns[-1]["content"] for turns in messages], sampling_params)

    def _outputs(self, kind, prompts, sampling_params):
        self.calls.append((kind, len(prompts)))
        assert len(prompts) == len(sampling_params)
        if any("too long" in prompt for prompt in prompts):
            raise ValueError("The decoder prompt is longer\nthan the maximum model length of 8.")
        return [
            SimpleNamespace(
                prompt_token_ids=prompt.split(),
                outputs=[SimpleNamespace(text=f"{prompt}! {p.stop}", token_ids=[1, 2], finish_reason="stop")],
            )
            for prompt, p in zip(prompts, sampling_params, strict=True)
        ]


@pytest.fixture
def fake_vllm(monkeypatch):
    module = types.ModuleType("vllm")
    module.__spec__ = importlib.machinery.ModuleSpec("vllm", None)
    module.LLM, module.SamplingParams, LLM.made = LLM, SamplingParams, []
    monkeypatch.setitem(sys.modules, "vllm", module)
    return module


def _requests(*prompts, **sampling):
    return [Request(f"row/{i}", "m", prompt, Sampling(**sampling)) for i, prompt in enumerate(prompts)]


def _answer_all(model, requests):
    async def run():
        async with model:
            return await asyncio.gather(*map(model.answer, requests), return_exceptions=True)

    return asyncio.run(asyncio.wait_for(run(), 20))


def test_missing_vllm_is_said_in_one_line(monkeypatch):
    monkeypatch.setattr(vllm_teacher.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="pip install vllm") as excinfo:
        make_language_model("vllm:some/model", ModelSettings())
    assert "\n" not in str(excinfo.value)


def test_settings_are_passed_through_with_their_types(fake_vllm):
    options = {"tensor_parallel_size": "8", "dtype": "bfloat16", "max_model_len": "4096", "max_batch": "3"}
    model = make_language_model("vllm:org/model-7b", ModelSettings(options=options))
    assert (model.name, model.model, model.chat, model.max_batch) == (
        "vllm-org-model-7b", "org/model-7b", True, 3,
    )  # fmt: skip
    _answer_all(model, _requests((Message("user", "hello"),)))
    assert LLM.made[0].settings == ("org/model-7b", 8, "bfloat16", 4096)


def test_chat_and_text_are_asked_in_batches(fake_vllm):
    model = make_language_model("vllm:m", ModelSettings(options={"max_batch": 2}))
    answers = _answer_all(
        model, _requests(*[(Message("system", "be brief"), Message("user", f"q {i}")) for i in range(4)])
    )
    assert [a.text for a in answers] == [f"q {i}! []" for i in range(4)]
    assert LLM.made[0].calls == [("chat", 2), ("chat", 2)]
    assert (answers[0].prompt_tokens, answers[0].completion_tokens, answers[0].finish_reason) == (
        2,
        2,
        "stop",
    )

    model = make_language_model("vllm:m", ModelSettings(api="completions"))
    [answer] = _answer_all(model, _requests("Q: why\nA:", stop=("\nQ:",)))
    assert answer.text == "Q: why\nA:! ['\\nQ:']"
    assert LLM.made[1].calls == [("text", 1)]


def test_prompt_that_vllm_refuses_is_told_apart_from_its_batch(fake_vllm):
    model = make_language_model("vllm:m", ModelSettings(api="completions"))
    first, second, third = _answer_all(model, _requests("a", "too long", "c"))
    assert (first.text, third.text) == ("a! []", "c! []")
    assert isinstance(second, RequestError)
    assert (second.kind, second.mend) == ("refused by vLLM", "give_up")
    assert "\n" not in second.detail


def test_setting_that_vllm_does_not_know_is_an_error_of_one_line(fake_vllm):
    model = make_language_model("vllm:m", ModelSettings(options={"tensor_paralel_size": 2}))
    with pytest.raises(ValueError, match="tensor_paralel_size"):
        _answer_all(model, _requests("a"))


@pytest.mark.parametrize(
    ("teacher", "options", "words"),
    [("vllm:", {}, "names no model"), ("vllm:m", {"max_batch": "0"}, "max_batch=0")],
)
def test_wrong_setting_is_refused(fake_vllm, teacher, options, words):
    with pytest.raises(ValueError, match=words):
        make_language_model(teacher, ModelSettings(options=options))
