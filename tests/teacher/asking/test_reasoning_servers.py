"""Four kinds of servers with a reasoning model: thoughts, answers, failures and counts are the same from each."""

import sqlite3

import pytest

from bench.mock_llm_forms import FORMS, Said, in_form
from bench.mock_llm_server import MockServer
from stepdistill_jax.datasets import record_io
from stepdistill_jax.teacher import JobSettings, ModelSettings, NothingParsed, PromptSettings, teach

LONG = "Let me count them once more. " * 50  # 300 words
OPTIONS = {
    "hosted": {
        "max_tokens_field": "max_completion_tokens",
        "temperature": "none",
        "stop": "none",
        "reasoning_effort": "low",
    }
}
# What is said of 'Mia has N plums and gets 2 more.'; the others are answered well.
SAID = {
    11: Said(f"{LONG}The answer is 1.", "Two more than 11. The answer is (11 + 2)."),
    12: Said("Hm.", "Two more than 12."),
    13: Said("Hm.", "Two more", "content_filter"),
    20: Said("Hm.", "", refusal="I can't help with plums."),
    21: Said("", ""),
    30: Said("Two more come. That is an addition.", "The answer is (30 + 2)."),
    31: Said("Hm.", f"{LONG}The answer is (31 + 2)."),
}
UNPARSED = {
    "budget spent on reasoning": 1,
    "no answer marker": 1,
    "stopped by the content filter": 1,
    "refused by the model": 1,
    "empty answer": 1,
    "empty rationale": 1,
    "cut at max_tokens": 1,
}


def answers(number):
    right = Said(
        "Is the answer 3? No, 2 more.", f"Two more than {number}. The answer is ({number} + 2) plums."
    )
    return SAID.get(number, right)


def _teach(plums, server, form, max_tokens=64, **prompt):
    return teach(
        "plums",
        teacher="openai:mock",
        data_dir=plums.data_dir,
        model_settings=ModelSettings(base_url=server.url, options=OPTIONS.get(form, {})),
        prompting=PromptSettings(max_tokens=max_tokens, **prompt),
        job_settings=JobSettings(),
    )


def _records(plums):
    folder = plums.rationales / "openai-mock"
    splits = ("train", "validation", "test")
    return {r["example_id"]: r for split in splits for r in record_io.read_records(folder, split)}


@pytest.fixture
def serving():
    with MockServer() as server:
        yield server


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_labels_rationales_and_counts(plums, serving, form):
    serving.behaviour = in_form(FORMS[form], answers)
    manifest = _teach(plums, serving, form)
    counts = dict(UNPARSED)
    if form == "vllm, tag in the prompt":  # nothing in the answer tells its thoughts from a text
        counts["cut at max_tokens"] += counts.pop("budget spent on reasoning")
    unparsed = manifest["unparsed"].values()
    assert {k: n for split in unparsed for k, n in split.items() if k != "cut at max_tokens"} == {
        k: n for k, n in counts.items() if k != "cut at max_tokens"
    }
    assert sum(split.get("cut at max_tokens", 0) for split in unparsed) == counts["cut at max_tokens"]
    assert manifest["requests"]["answered"] == 8
    record = _records(plums)["plums/train/0"]
    assert (record["rationale"], record["teacher_label"]) == ("Two more than 10.", "(10 + 2)")

    assert len(serving.asked) == 8
    _teach(plums, serving, form, max_tokens=1000)
    assert len(serving.asked) == 8 + 2  # what the budget had cut
    labels = {key: record["teacher_label"] for key, record in _records(plums).items()}
    assert labels["plums/train/1"] == "(11 + 2)"
    assert labels["plums/test/1"] == "(31 + 2)"

    _teach(plums, serving, form, max_tokens=1000, rationale_from="thoughts")
    assert len(serving.asked) == 8 + 2
    rationale = _records(plums)["plums/test/0"]["rationale"]
    assert rationale == ("" if form == "hosted" else "Two more come. That is an addition.")


@pytest.mark.parametrize("form", [form for form in FORMS if form != "hosted"])
def test_thoughts_are_kept_raw(plums, serving, form):
    serving.behaviour = in_form(FORMS[form], answers)
    _teach(plums, serving, form)
    store = sqlite3.connect(plums.data_dir / "plums" / "answers" / "openai-mock" / "answers.sqlite")
    [(text, thoughts)] = store.execute(
        "select text, thoughts from answers where example_id = 'plums/train/0'"
    )
    apart = bool(FORMS[form].field)
    assert thoughts == ("Is the answer 3? No, 2 more." if apart else "")
    assert ("</think>" in text) != apart


@pytest.mark.parametrize(
    ("said", "reason", "mend"),
    [
        (Said(LONG, "x"), "budget spent on reasoning", "raise --max_tokens"),
        (Said("", "", refusal="No."), "refused by the model", "teach show"),
        (Said("", "It is so."), "no answer marker", "--prompt"),
    ],
)
def test_answers_of_which_none_can_be_read_are_no_success(plums, serving, said, reason, mend, capsys):
    serving.behaviour = in_form(FORMS["llama.cpp"], lambda number: said)
    with pytest.raises(
        NothingParsed, match=rf"none of 8 answers could be read \(8 x {reason}\).*{mend}"
    ) as caught:
        _teach(plums, serving, "llama.cpp")
    assert caught.value.exit_status == 65
    assert "\n" not in str(caught.value)
    assert len(_records(plums)) == 8
    with pytest.raises(NothingParsed):  # up to date, and still no success
        _teach(plums, serving, "llama.cpp")
    assert len(serving.asked) == 8


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "Unsupported parameter: 'max_tokens'.*Use 'max_completion_tokens'"),
        ({"max_tokens_field": "max_completion_tokens"}, "Unsupported parameter: 'temperature'"),
        ({**OPTIONS["hosted"], "reasoning_effort": "lots"}, "Invalid value: 'lots'"),
    ],
)
def test_what_a_hosted_server_refuses_is_said_in_its_words(plums, serving, options, words):
    serving.behaviour = in_form(FORMS["hosted"], answers)
    with pytest.raises(ValueError, match=words):
        teach(
            "plums",
            teacher="openai:mock",
            data_dir=plums.data_dir,
            model_settings=ModelSettings(base_url=serving.url, options=options),
        )


@pytest.mark.parametrize("kind", ["json", "json_schema"])
@pytest.mark.parametrize("form", ["vllm", "llama.cpp"])
def test_json_is_asked_for_by_prompt_and_server_alike(plums, serving, form, kind):
    bodies = []

    def said(number):
        return Said(
            "Hm.", f'{{"rationale": "Two more than {number}.", "answer": "{number} + 2 = {number + 2}"}}'
        )

    behave = in_form(FORMS[form], said)
    serving.behaviour = lambda prompt, attempt, body: (bodies.append(body), behave(prompt, attempt, body))[1]
    manifest = teach(
        "plums",
        teacher="openai:mock",
        data_dir=plums.data_dir,
        model_settings=ModelSettings(base_url=serving.url, options={"response_format": kind}),
    )
    assert manifest["parsed"] == {"train": 4, "validation": 2, "test": 2}
    assert all("Answer with one JSON object" in body["messages"][0]["content"] for body in bodies)
    types = {body["response_format"]["type"] for body in bodies}
    assert types == {"json_object" if kind == "json" else "json_schema"}
    record = _records(plums)["plums/train/0"]
    assert (record["rationale"], record["teacher_label"]) == ("Two more than 10.", "10 + 2")
