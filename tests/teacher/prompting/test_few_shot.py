"""What is asked, how often, and what the replies come to."""

import dataclasses
import json
from types import SimpleNamespace

import pytest

from stepdistill_jax import datasets
from stepdistill_jax.launching import task_modules
from stepdistill_jax.teacher.answers.requests import Answer, Failure, Message
from stepdistill_jax.teacher.prompting.few_shot import PromptSettings, make_prompting
from stepdistill_jax.teacher.prompting.quality import QualityRules

task_modules.load_tasks()
ROW = datasets.Example(
    "wordproblems/train/0",
    "wordproblems",
    "train",
    "Zoe has 2 hats. She buys 3. How many?",
    "2 + 3",
    "train",
    0,
)
RIGHT, WRONG = "She adds. So the answer is 2 + 3.", "She takes. So the answer is 3 - 2."


def _make(name="wordproblems", *, chat=False, labels=(), examples=(), rules=None, **settings):
    return make_prompting(
        datasets.get(name),
        model=SimpleNamespace(name="m", model="model-1", chat=chat),
        settings=PromptSettings(rules=QualityRules(**rules or {}), **settings),
        labels=labels,
        examples=lambda: examples,
    )


def _ask(prompting, example, texts):
    """Replies to what is asked in rounds, with the next of `texts` (a Failure stays one); the verdict, and the requests."""
    texts, replies = iter(texts), {}
    while missing := [r for r in prompting.requests(example, replies) if r.key not in replies]:
        for request in missing:
            text = next(texts)
            replies[request.key] = Answer(text) if isinstance(text, str) else text
    assert next(texts, None) is None, "fewer requests than texts"
    return prompting.read(example, replies)


def test_text_holds_instruction_examples_and_the_question_last():
    [request] = _make(shots=2).requests(ROW, {})
    assert request.prompt.startswith("Solve the word problem.")
    assert request.prompt.count("\nQ: ") == 3
    assert request.prompt.endswith(f"\n\nQ: {ROW.inputs}\nA:")
    assert request.sampling.stop == ("\nQ:",)
    assert (request.example_id, request.model, request.sample) == (ROW.example_id, "model-1", 0)


def test_chat_shows_each_example_as_two_turns():
    [request] = _make(chat=True, shots=2).requests(ROW, {})
    assert [m.role for m in request.prompt] == ["system", "user", "assistant", "user", "assistant", "user"]
    assert request.prompt[-1] == Message("user", ROW.inputs)
    assert "So the answer is" in request.prompt[2].content


def test_one_message_holds_what_the_text_holds():
    [message] = _make(chat=True, shots=2, style="message").requests(ROW, {})[0].prompt
    assert message == Message("user", _make(shots=2).requests(ROW, {})[0].prompt)


def test_no_examples_ask_zero_shot_with_the_form_of_the_answer():
    [request] = _make(shots=0).requests(ROW, {})
    assert "step by step" in request.prompt
    assert "So the answer is" in request.prompt
    assert request.prompt.count("Q: ") == 1


def test_dataset_without_a_file_is_asked_zero_shot(plums):
    [request] = _make("plums").requests(dataclasses.replace(ROW, dataset="plums"), {})
    assert '"The answer is"' in request.prompt


def test_prompt_of_ours_is_named_without_its_path():
    assert _make(prompt="wordproblems_terse").settings["prompt"] == "wordproblems_terse.txt"
    with pytest.raises(FileNotFoundError, match=r"No prompt file wordproblem_terse; .* anli, cqa, esnli"):
        _make(prompt="wordproblem_terse")


def test_prompt_hash_covers_all_that_is_shown():
    hashes = [
        _make(**settings).prompt_hash
        for settings in (
            {},
            {"shots": 3},
            {"shots": 0},
            {"chat": True},
            {"chat": True, "style": "message"},
            {"stop": ("\n\n",)},
            {"rules": {"rationalise": True}},
        )
    ]
    assert len(set(hashes)) == len(hashes)
    assert _make().prompt_hash == _make(rules={"only_correct": True}).prompt_hash


def test_answer_is_read_tolerantly_and_the_failed_one_has_its_kind():
    assert _ask(_make(), ROW, ["Two. so the answer is **5**."]).parsed.label == "5"
    verdict = _ask(_make(), ROW, [Failure("timeout")])
    assert (verdict.answer, verdict.parsed.unparsed_reason) == (None, "timeout")


def test_labels_of_the_task_and_of_the_row_are_used():
    nli = datasets.Example("esnli/test/0", "esnli", "test", "premise: a hypothesis: b", "neutral", "test", 0)
    labels = ("entailment", "neutral", "contradiction")
    assert _ask(_make("esnli", labels=labels), nli, ["May be. answer: Neutr"]).parsed.label == "neutral"
    choices = ("park", "bank", "sea", "moon", "zoo")
    inputs = "Where?\nAnswer Choices:\n" + "\n".join(
        f"({x}) {c}" for x, c in zip("abcde", choices, strict=True)
    )
    cqa = datasets.Example("cqa/test/0", "cqa", "test", inputs, "sea", "test", 0, choices)
    assert _ask(_make("cqa"), cqa, ["Water. So the answer is (C)."]).parsed.label == "sea"


def test_majority_of_samples_decides_and_is_told():
    prompting = _make(temperature=0.7, seed=5, rules={"samples": 3})
    requests = prompting.requests(ROW, {})
    assert [(r.sample, r.sampling.seed) for r in requests] == [(0, 5), (1, 6), (2, 7)]
    verdict = _ask(prompting, ROW, [WRONG, RIGHT, "One more. So the answer is 5."])
    assert (verdict.parsed.label, verdict.answer.text) == ("2 + 3", RIGHT)
    assert json.loads(verdict.sampling)["votes"] == 2
    verdict = _ask(prompting, ROW, [Failure("timeout"), "no marker", Failure("timeout")])
    assert verdict.parsed.unparsed_reason == "no answer marker"
    assert verdict.answer.text == "no marker"


def test_miss_is_asked_again_with_the_gold_label_as_hint():
    prompting = _make(rules={"rationalise": True, "only_correct": True})
    first = prompting.requests(ROW, {})
    both = prompting.requests(ROW, {first[0].key: Answer(WRONG)})
    assert both[0] == first[0]
    assert both[1].prompt.endswith(f"{ROW.inputs}\n(Hint: the answer is 2 + 3.)\nA:")
    assert both[1].prompt.count("(Hint: the answer is ") == 9  # each of the eight examples shows how
    verdict = _ask(prompting, ROW, [WRONG, RIGHT])
    assert (verdict.parsed.label, verdict.answer.text, verdict.dropped_reason) == ("2 + 3", RIGHT, "")
    assert json.loads(verdict.sampling)["hinted"] is True


def test_hint_is_not_asked_for_a_right_answer_and_not_trusted_blindly():
    prompting = _make(rules={"rationalise": True, "only_correct": True})
    verdict = _ask(prompting, ROW, [RIGHT])
    assert "hinted" not in json.loads(verdict.sampling)
    verdict = _ask(prompting, ROW, [WRONG, "Hm. So the answer is 7."])
    assert (verdict.parsed.label, verdict.dropped_reason) == ("3 - 2", "label is not the gold label")
    unlabelled = dataclasses.replace(ROW, label=None)
    assert _ask(prompting, unlabelled, [WRONG]).dropped_reason == "no gold label to compare with"


def test_second_rationale_of_the_same_words_is_dropped():
    prompting = _make(rules={"drop_duplicates": True})
    other = dataclasses.replace(ROW, example_id="wordproblems/train/1", inputs="Another?")
    assert _ask(prompting, ROW, [RIGHT]).dropped_reason == ""
    assert _ask(prompting, other, [RIGHT]).dropped_reason == "rationale occurs before"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"shots": 99}, "--shots=99, but .*wordproblems.txt has"),
        ({"shots": -1}, "--shots=-1"),
        ({"style": "song"}, "--prompt_style=song"),
        ({"style": "turns"}, "a text to continue"),
        ({"style": "text", "chat": True}, "asked by a chat"),
        ({"rules": {"samples": 2}}, "--samples=2 at --temperature=0"),
    ],
)
def test_setting_that_cannot_work_is_refused_before_anything_is_asked(settings, words):
    with pytest.raises(ValueError, match=words) as excinfo:
        _make(**settings)
    assert "\n" not in str(excinfo.value)


def test_question_that_the_prompt_shows_is_refused_if_it_is_shown():
    shown = dataclasses.replace(
        ROW, inputs="A bakery made 52 rolls.  In the morning 37 rolls were sold. How many rolls are left?"
    )
    with pytest.raises(ValueError, match="wordproblems/train/0"):
        _make(examples=[ROW, shown])
    _make(examples=[ROW, shown], shots=0)


def test_flags_say_the_settings():
    import argparse

    from stepdistill_jax.teacher.prompt_flags import add_prompt_flags, prompt_settings

    parser = argparse.ArgumentParser()
    add_prompt_flags(parser)
    assert prompt_settings(parser.parse_args([])) == PromptSettings()
    args = parser.parse_args(
        ["--shots", "3", "--samples", "5", "--temperature", "0.7", "--only_correct", "--stop", "END"]
    )
    assert prompt_settings(args) == PromptSettings(
        shots=3, temperature=0.7, stop=("END",), rules=QualityRules(samples=5, only_correct=True)
    )
    for wrong in ("--temperature 3", "--top_p 0", "--max_tokens 0", "--samples 0"):
        with pytest.raises(ValueError, match=wrong.split()[0]):
            prompt_settings(parser.parse_args(wrong.split()))


# The first characters of the keys that version 0.1.0 asked under: as a chat and as a text, with all worked examples and none.
KEYS = {
    "anli": ["ed7a3f5bb186", "2c5fe67999f8", "7ba3386cd249", "a0aab1bc1f3e"],
    "asdiv": ["071195529d0f", "0d2115c34cf3", "f8220d0c2a70", "fea4ec0f64a6"],
    "cqa": ["ddf42ef69520", "750e6fd133d6", "1fa697ab95e3", "75fe1979de09"],
    "esnli": ["b169cdf2909d", "035589b7bbee", "8f0327983993", "0a6a643980a6"],
    "svamp": ["d7942258b660", "06a650e5e7a2", "b066b3f1f11e", "4a71ed89438f"],
    "wordproblems": ["59b4e5b5cc81", "4938940a3cba", "cd152b2370d2", "9fed6088b5d0"],
}


@pytest.mark.parametrize("name", sorted(KEYS))
def test_what_was_asked_before_is_not_asked_again_by_default(name):
    keys = [
        make_prompting(
            datasets.get(name),
            model=SimpleNamespace(name="m", model="m", chat=chat),
            settings=PromptSettings(shots=shots),
            labels=(),
            examples=tuple,
        )
        .requests(datasets.Example(f"{name}/train/0", name, "train", "Why?", "x", "train", 0), {})[0]
        .key[:12]
        for chat in (True, False)
        for shots in (None, 0)
    ]
    assert keys == KEYS[name]


def test_fields_besides_are_in_the_request_and_a_temperature_is_given_once():
    model = SimpleNamespace(name="m", model="m", chat=True, extra={"temperature": None, "min_p": 0.1})
    settings = {"labels": (), "examples": tuple}
    dataset = datasets.get("wordproblems")
    rules = QualityRules(samples=2)  # the server's own temperature is not 0
    prompting = make_prompting(dataset, model=model, settings=PromptSettings(rules=rules), **settings)
    assert [json.loads(r.sampling.extra) for r in prompting.requests(ROW, {})] == [model.extra] * 2
    with pytest.raises(ValueError, match=r"--temperature=0.7 and --teacher_option temperature=none"):
        make_prompting(dataset, model=model, settings=PromptSettings(temperature=0.7), **settings)
