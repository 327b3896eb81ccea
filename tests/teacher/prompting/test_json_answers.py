"""JSON objects of a rationale and an answer."""

import json
from types import SimpleNamespace

import pytest

from stepdistill_jax import datasets
from stepdistill_jax.launching import task_modules
from stepdistill_jax.teacher.prompting import json_answers
from stepdistill_jax.teacher.prompting.few_shot import PromptSettings, make_prompting
from stepdistill_jax.teacher.prompting.tolerant_parsing import LabelForm

SUMS = LabelForm(equation=True)
NLI = ("entailment", "neutral", "contradiction")


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ('{"rationale": "a.", "answer": "12 - 5 = 7 pots"}', "12 - 5"),
        ('{"answer": 12.50, "rationale": "a."}', "12.50"),
        ('{"rationale": "a.", "answer": 10000000000000000001}', "10000000000000000001"),
        ('Here it is:\n```json\n{"rationale": "a.", "answer": "(5 + 3) / 2"}\n```\nDone.', "(5 + 3) / 2"),
        ('{"rationale": "a.", "answer": "4 \\\\times 3"}', "4 * 3"),
    ],
)
def test_an_object_is_read_whatever_stands_around_it(text, label):
    parsed = json_answers.parse(text, SUMS)
    assert (parsed.rationale, parsed.label, parsed.unparsed_reason) == ("a.", label, "")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a. The answer is 7.", "no JSON object"),
        ('{"rationale": "a.", "answer": "12 -', "no JSON object"),
        ("[" * 100_000, "no JSON object"),
        ('{"a":' * 100_000, "no JSON object"),
        ('{"rationale": "a.", "answer": "1"} {"rationale": "a.", "answer": "2"}', "no JSON object"),
        ('{"rationale": "a.", "label": "1"}', "JSON object without rationale and answer"),
        ('{"rationale": ["a"], "answer": "1"}', "JSON object without rationale and answer"),
        ('{"rationale": "a.", "answer": null}', "JSON object without rationale and answer"),
        ('{"rationale": "a.", "answer": ""}', "no label behind marker"),
        ('{"rationale": "", "answer": "1"}', "empty rationale"),
        ('{"rationale": "a.", "answer": "4 \\times 3"}', "label is no equation"),  # JSON's tab
        ('{"rationale": "a.", "answer": "12 and a half"}', "label is no equation"),
        ('{"rationale": "a.", "answer": "1", "answer": "2"}', "no JSON object"),
        (
            '```\n{"rationale": "a.", "answer": "1"}\n```\nOr:\n```\n{"rationale": "a.", "answer": "2"}\n```',
            "no JSON object",
        ),
        (
            '{"rationale": "a.", "answer": "1"}\n```\n{"rationale": "a.", "answer": "2"}\n```',
            "no JSON object",
        ),
        ('{"rationale": "a.", "answer": "1"}\nWait, that is wrong.', "answer doubted or taken back"),
        ('```\n{"rationale": "a.", "answer": "1"}\n```\nActually, 2.', "answer doubted or taken back"),
        (
            '{"rationale": "a.", "answer": "1", "final_answer": "2"}',
            "JSON object without rationale and answer",
        ),
    ],
)
def test_what_is_no_such_object_has_a_reason(text, reason):
    parsed = json_answers.parse(text, SUMS)
    assert (parsed.label, parsed.unparsed_reason) == ("", reason)


@pytest.mark.parametrize(("name", "labels"), [("esnli", NLI), ("svamp", ())])
def test_instruction_worked_examples_and_schema_say_the_same(name, labels):
    task_modules.load_tasks()
    model = SimpleNamespace(name="m", model="m", chat=True, response_format="json_schema")
    example = datasets.Example(f"{name}/train/0", name, "train", "Why?", "x", "train", 0)
    prompting = make_prompting(
        datasets.get(name), model=model, settings=PromptSettings(), labels=labels, examples=tuple
    )
    [request] = prompting.requests(example, {})
    assert "one JSON object" in request.prompt[0].content
    form = LabelForm(labels, equation=not labels)
    shown = [json_answers.parse(m.content, form) for m in request.prompt if m.role == "assistant"]
    assert len(shown) >= 7
    assert not any(parsed.unparsed_reason for parsed in shown)
    schema = json.loads(request.sampling.extra)["response_format"]["json_schema"]["schema"]
    assert schema["properties"]["answer"].get("enum", []) == list(labels)
