"""A small trained encoder-decoder as a teacher: our own engine answers prompts."""

import asyncio

import pytest

from stepdistill_jax.teacher.answers.requests import Answer, Request, RequestError, Sampling
from stepdistill_jax.teacher.backends.teachers import ModelSettings, make_language_model

QUESTION = "Mia has 12 apples and buys 5 more. How many apples does she have?"


def _answer_all(model, requests):
    async def run():
        async with model:
            return await asyncio.gather(*map(model.answer, requests), return_exceptions=True)

    return asyncio.run(asyncio.wait_for(run(), 300))


def _requests(*prompts, **sampling):
    return [
        Request(f"row/{i}", "m", prompt, Sampling(**{"max_tokens": 12, **sampling}))
        for i, prompt in enumerate(prompts)
    ]


def test_run_answers_as_its_student_predicts(finished_run):
    from stepdistill_jax.launching import runs

    expected = runs.predict(finished_run, [QUESTION])
    model = make_language_model(f"t5x:{finished_run}", ModelSettings(options={"max_batch": 8}))
    assert (model.name[:4], model.chat, model.max_batch) == ("t5x-", False, 8)
    # `predict` allows 32 tokens and puts the task's prefix in front.
    answers = _answer_all(model, _requests(f"[label] {QUESTION}", "[label] Short?", max_tokens=32))
    assert all(isinstance(answer, Answer) for answer in answers)
    assert answers[0].text == expected[0]
    assert answers[0].prompt_tokens > 10
    assert answers[0].finish_reason in ("stop", "length")
    assert 0 < answers[0].completion_tokens <= 32


def test_prompt_that_is_too_long_is_given_up_alone_and_stop_strings_cut(finished_run):
    def ask(*requests):
        options = {"max_input_tokens": "40", "max_batch": 8}
        return _answer_all(
            make_language_model(f"t5x:{finished_run}", ModelSettings(options=options)), requests
        )

    long, short = ask(*_requests("many words " * 40, "few words"))
    assert isinstance(long, RequestError)
    assert long.kind == "prompt too long"
    assert isinstance(short, Answer)
    middle = short.text[len(short.text) // 2 :].strip()
    assert middle, "the student says nothing; choose another question"
    [cut] = ask(*_requests("few words", stop=(f"\n{middle}",)))
    assert cut.text == short.text[: short.text.find(middle, 1)].rstrip()
    assert cut.finish_reason == "stop"


@pytest.mark.parametrize(
    ("model", "options", "words"),
    [
        ("nowhere", {}, "no such folder"),
        (".", {}, "no config.gin"),
        (".", {"gin_file": "x.gin", "max_batch": "none"}, "max_batch=none"),
    ],
)
def test_wrong_setting_is_refused_before_anything_is_loaded(model, options, words):
    with pytest.raises(ValueError, match=words):
        make_language_model(f"t5x:{model}", ModelSettings(options=options))


def test_chat_is_refused(finished_run):
    with pytest.raises(ValueError, match="has no chat"):
        make_language_model(f"t5x:{finished_run}", ModelSettings(api="chat"))
