"""Files of worked examples: ours are right and readable, and a wrong one is named with its line."""

import dataclasses
import re

import pytest

from stepdistill_jax import datasets
from stepdistill_jax.datasets import equations
from stepdistill_jax.launching import task_modules
from stepdistill_jax.teacher import parse_completion
from stepdistill_jax.teacher.prompting import prompt_files
from stepdistill_jax.teacher.prompting.tolerant_parsing import LabelForm, parse_answer

task_modules.load_tasks()
NAMES = ("anli", "asdiv", "cqa", "esnli", "svamp", "wordproblems")
NLI = ("entailment", "neutral", "contradiction")


def _read(name):
    dataset = datasets.get(name)
    return dataset, prompt_files.read_prompt_file(prompt_files.built_in(name), dataset)


@pytest.fixture
def write(tmp_path):
    """Writes a prompt file and reads it for SVAMP: `write(text)`."""

    def read(text):
        path = tmp_path / "mine.txt"
        path.write_text(text, encoding="utf-8")
        return prompt_files.read_prompt_file(path, datasets.get("svamp"))

    return read


@pytest.mark.parametrize("name", NAMES)
def test_every_dataset_of_ours_has_a_file_with_enough_examples(name):
    _, prompt = _read(name)
    assert len(prompt.exemplars) >= (10 if name in ("anli", "esnli") else 7)
    assert prompt.instruction
    assert prompt.zero_shot


@pytest.mark.parametrize("name", NAMES)
def test_every_worked_example_reads_back_by_both_parsers(name):
    dataset, prompt = _read(name)
    completion_format = prompt.completion_format(dataset)
    for exemplar in prompt.exemplars:
        text = prompt.answer_text(exemplar)
        goes_on = f"{text}\n\n{prompt.question_mark} What else? {dataset.completion.answer_marker} (1)."
        for parsed in (
            parse_completion(text, completion_format),
            parse_answer(
                goes_on,
                completion_format,
                LabelForm(
                    exemplar.choices or (NLI if name in ("anli", "esnli") else ()),
                    lettered=bool(exemplar.choices),
                    equation=dataset.metric == "equation",
                ),
            ),
        ):
            assert parsed.unparsed_reason == ""
            assert parsed.rationale == exemplar.rationale
            assert datasets.labels_match(dataset, parsed.label, exemplar.label)


def test_terse_examples_for_small_models_read_back_too():
    terse = prompt_files.read_prompt_file(
        prompt_files.FOLDER / "wordproblems_terse.txt", datasets.get("wordproblems")
    )
    values = [equations.evaluate(exemplar.label) for exemplar in terse.exemplars]
    assert values == [27, 56, 15, 36, 7, 10, 23]


@pytest.mark.parametrize("name", ["svamp", "wordproblems"])
def test_every_calculation_in_a_worked_example_is_right_and_ends_in_the_labels_value(name):
    _, prompt = _read(name)
    words = {" plus ": " + ", " minus ": " - ", " times ": " * ", " divided by ": " / ", " is ": " = "}
    for exemplar in prompt.exemplars:
        value = equations.evaluate(exemplar.label)
        assert value is not None
        numbers = re.findall(r"\d+", exemplar.label)
        three = "Three friends"  # the one number that is written as a word
        assert all(n in re.findall(r"\d+", exemplar.question) or three in exemplar.question for n in numbers)
        text = exemplar.rationale
        for word, sign in words.items():
            text = text.replace(word, sign)
        calculations = re.findall(r"(\d+(?: [-+*/] \d+)+) = (\d+)", text)
        for left, right in calculations:
            assert equations.evaluate(left) == int(right), exemplar
        if calculations:
            assert int(calculations[-1][1]) == value, exemplar


@pytest.mark.parametrize("name", ["anli", "esnli"])
def test_labels_of_nli_are_balanced(name):
    _, prompt = _read(name)
    counts = [sum(exemplar.label == label for exemplar in prompt.exemplars) for label in NLI]
    assert min(counts) >= 3


def test_positions_of_the_right_choice_vary():
    _, prompt = _read("cqa")
    assert len({exemplar.choices.index(exemplar.label) for exemplar in prompt.exemplars}) >= 4
    assert {len(exemplar.choices) for exemplar in prompt.exemplars} == {5}


def test_choices_are_laid_out_as_in_the_dataset():
    from tasks import cqa

    _, prompt = _read("cqa")
    exemplar = prompt.exemplars[0]
    row = {"question": exemplar.question, "choices": list(exemplar.choices), "answer": exemplar.label}
    assert exemplar.inputs == cqa.to_example(row).inputs


GOOD = """# a comment
[prompt]
instruction: Solve it.
answer: {rationale} The answer is {label}.

[example]
question: Ann has 2 cats.
  How many, if one more comes?
rationale: One more than 2.
label: (2 + 1)
"""


def test_value_goes_on_in_indented_lines(write):
    assert write(GOOD).exemplars[0].question == "Ann has 2 cats.\nHow many, if one more comes?"


def test_value_of_an_equation_may_stand_for_it(tmp_path):
    path = tmp_path / "value.txt"
    path.write_text(GOOD.replace("The answer is {label}", "So the answer is {value}"))
    dataset = datasets.get("wordproblems")
    prompt = prompt_files.read_prompt_file(path, dataset)
    assert prompt.answer_text(prompt.exemplars[0]) == "One more than 2. So the answer is 3."
    assert prompt.hint_text("2 + 1") == "(Hint: the answer is 2 + 1.)"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no [prompt] section"),
        (GOOD.replace("answer:", "anwser:"), "mine.txt:4: no key 'anwser'"),
        (GOOD.replace("[example]", "[exemplar]"), "mine.txt:6: [exemplar] is neither"),
        (GOOD.replace("label: (2 + 1)\n", ""), "mine.txt:6: the example has no label"),
        (GOOD.replace("label:", "choices: 1 | 2\nlabel:"), "mine.txt:6: the label '(2 + 1)' is none of"),
        (GOOD.replace("(2 + 1)", "2 + 1"), "mine.txt:6: by the rules of svamp"),
        (GOOD.replace("The answer is {label}", "{label}"), "no answer marker"),
        (GOOD.replace("{label}", "{lable}"), "must hold {rationale} and {label}"),
        (GOOD + "question: again\n", "'question' stands twice"),
        (GOOD + "[prompt]\nanswer: x\n", "a second [prompt]"),
        ("stray\n" + GOOD, "mine.txt:1: 'stray' is neither"),
        (GOOD.replace("[prompt]\n", "[prompt]\nhint: none\n"), "must hold {label}"),
    ],
)
def test_mistake_in_a_file_is_named_in_one_line(write, text, words):
    with pytest.raises(ValueError, match=re.escape(words)) as excinfo:
        write(text)
    assert "\n" not in str(excinfo.value)


def test_missing_file_and_folder_and_bytes_are_named(tmp_path):
    dataset = datasets.get("svamp")
    with pytest.raises(FileNotFoundError, match="No prompt file"):
        prompt_files.read_prompt_file(tmp_path / "absent.txt", dataset)
    with pytest.raises(ValueError, match="is a folder"):
        prompt_files.read_prompt_file(tmp_path, dataset)
    (tmp_path / "bytes.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="not UTF-8"):
        prompt_files.read_prompt_file(tmp_path / "bytes.txt", dataset)


def test_worked_example_that_is_to_be_labelled_is_refused_with_its_row(write):
    prompt = write(GOOD)
    row = datasets.Example(
        "svamp/test/7", "svamp", "test", "ANN has 2 cats!\n How many, if  one more comes", "3", "test", 7
    )
    prompt_files.shown_rows(prompt, [dataclasses.replace(row, inputs="Ann has 3 cats.")])
    with pytest.raises(ValueError, match=r"mine.txt:6: .*svamp/test/7") as excinfo:
        prompt_files.shown_rows(prompt, [row])
    assert "\n" not in str(excinfo.value)


@pytest.mark.parametrize(
    "name", ["anli", "asdiv", "cqa", pytest.param("esnli", marks=pytest.mark.slow), "svamp"]
)
def test_no_worked_example_of_ours_occurs_in_published_data(shared, tmp_path, name):
    datasets.prepare(name, from_folder=shared / "data", data_dir=tmp_path)
    dataset, prompt = _read(name)
    for split in dataset.splits:
        assert prompt_files.shown_rows(prompt, datasets.read_examples(name, split, tmp_path)) == frozenset()


def test_no_worked_example_of_ours_occurs_in_the_embedded_problems():
    from stepdistill_jax.datasets import wordproblems

    _, prompt = _read("wordproblems")
    shown = {prompt_files.normalised(exemplar.inputs) for exemplar in prompt.exemplars}
    for split in ("train", "validation", "test"):
        assert not shown & {
            prompt_files.normalised(problem.inputs) for problem in wordproblems.generate(split)
        }
