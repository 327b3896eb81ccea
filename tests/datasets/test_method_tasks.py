"""The tasks in which the paper's methods differ: one target of rationale and label, rationales as inputs, augmentation."""

import gin
import pytest
import seqio
from riddles import RIDDLES, write_jsonl
from test_seqio_tasks import read, text, write_rationales
from test_subsets import choose

from stepdistill_jax import datasets
from stepdistill_jax.base.methods import METHODS
from stepdistill_jax.student.features import StepByStepFeatureConverter


@pytest.fixture
def riddles(register_dataset, data_folder, source_folder):
    """Riddles, prepared and taught: the answers to rows 0, 3, 6 and 9 of train, and 0 of test, did not parse."""
    dataset = register_dataset()
    datasets.prepare("riddles", from_folder=source_folder)
    write_rationales(data_folder)
    yield dataset
    gin.clear_config()


@pytest.mark.parametrize(
    "method", [method for method in METHODS.values() if method.is_trained], ids=lambda m: m.name
)
def test_every_method_has_its_task_and_step_by_step_two_of_them(riddles, method):
    name = f"riddles_{method.task_ending}"
    tasks = {task.name for task in seqio.get_subtasks(seqio.get_mixture_or_task(name))}
    assert tasks == (
        {f"riddles_{method.label_task}", "riddles_rationale"} if method.has_rationale_task else {name}
    )
    assert len(tasks) == method.num_tasks


def test_rationale_then_label_writes_both_in_the_teachers_form(riddles):
    examples = read("riddles_rationale_then_label")
    assert [int(example["example_id"].decode().split("/")[-1]) for example in examples] == [1, 2, 4, 5, 7, 8]
    for example in examples:
        row = RIDDLES[int(example["example_id"].decode().split("/")[-1])]
        assert text(example) == f"{row['why']} So the answer is {row['answer']}"
        assert set(example["task_ids"]) == {datasets.LABEL_TASK_ID}
    of_teacher = read("riddles_rationale_then_teacher_label")
    assert {text(example).partition(" So the answer is ")[2] for example in of_teacher} == {"a table"}


def test_rationale_then_label_is_scored_on_the_label_behind_the_marker(riddles):
    evaluator = seqio.Evaluator(
        "riddles_rationale_then_label",
        feature_converter=StepByStepFeatureConverter(pack=False),
        eval_split="test",
        sequence_length={"inputs": 64, "targets": 48, "task_ids": 48},
    )
    answers = [
        f"It stands. So the answer is {RIDDLES[10]['answer']}",
        f"{RIDDLES[11]['answer']}",  # right, but no marker
    ]

    def predict(dataset):
        encode = datasets.embedded_vocabulary().encode
        rows = enumerate(dataset.as_numpy_iterator())
        return [(index, (encode(answers[index]) + [1] * 48)[:48]) for index, _ in rows]

    metrics, _ = evaluator.evaluate(compute_metrics=True, step=0, predict_fn=predict)
    values = metrics.result()["riddles_rationale_then_label"]
    assert {name: getattr(value, "value", value) for name, value in values.items()} == {
        "accuracy": 50.0,
        "num_correct": 1,
        "num_examples": 2,
    }


@pytest.mark.parametrize(
    ("prediction", "label"),
    [
        ("It stands. So the answer is a stool", "a stool"),
        ("So the answer is a chair. So the answer is a stool", "a stool"),
        ("It stands. So the answer", ""),
        ("", ""),
        ("So the answer is", ""),
    ],
)
def test_label_part_is_what_stands_behind_the_last_marker(riddles, prediction, label):
    task = seqio.get_mixture_or_task("riddles_rationale_then_label")
    assert task.postprocess_fn(prediction, example=None, is_target=False) == label


def test_rationale_as_input_reads_every_question_with_the_teachers_rationale_without_its_label(riddles):
    for split, rows in (("train", RIDDLES[:10]), ("test", RIDDLES[10:])):
        examples = read("riddles_rationale_as_input", split=split)
        assert [text(example) for example in examples] == [row["answer"] for row in rows]
        for number, (example, row) in enumerate(zip(examples, rows, strict=True)):
            rationale = row["why"] if number % 3 else ""
            expected = f"[label] {row['question']} rationale: {rationale}"
            assert example["inputs_pretokenized"].decode() == expected
            assert "a table" not in example["inputs_pretokenized"].decode()


def test_rationale_as_input_reads_no_rationale_that_was_told_the_test_label(riddles, data_folder):
    ids = {split: datasets.read_examples("riddles", split)[1].example_id for split in ("train", "test")}
    write_rationales(data_folder, hinted=set(ids.values()))
    for split, told in (("train", True), ("test", False)):
        [example] = [
            each
            for each in read("riddles_rationale_as_input", split=split)
            if each["example_id"].decode() == ids[split]
        ]
        assert example["inputs_pretokenized"].decode().endswith("rationale: ") != told


def test_a_teacher_without_answers_to_the_split_is_said_with_the_mend(riddles, data_folder):
    write_rationales(data_folder, splits=("train",))
    for task in ("rationale_as_input", "rationale_then_label"):
        with pytest.raises(ValueError, match=r"no split 'test'.*stepdistill teach riddles") as caught:
            read(f"riddles_{task}", split="test")
        assert "\n" not in str(caught.value)


@pytest.fixture
def jokes(riddles, register_dataset, data_folder, source_folder):
    """A second dataset, whose questions may be added: the riddles, all said to be stools."""
    write_jsonl(source_folder / "jokes.jsonl", [{**row, "answer": "a stool"} for row in RIDDLES[:9]])
    register_dataset(name="jokes", files={"train": ["jokes.jsonl"]})
    datasets.prepare("jokes", from_folder=source_folder)
    write_rationales(data_folder, "oracle", splits=("train",), name="jokes")


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_augmentation_adds_questions_with_the_teachers_labels_and_rationales(riddles, jokes, share):
    plain = read("riddles_label"), read("riddles_rationale"), read("riddles_label", split="test")
    choose(augmentation="jokes", augmentation_share=share, augmentation_teacher="oracle", train_share=1.0)
    labels, rationales, test = (
        read("riddles_label"),
        read("riddles_rationale"),
        read("riddles_label", split="test"),
    )
    assert [text(example) for example in test] == [text(example) for example in plain[2]]
    added = [example["example_id"] for example in labels[len(plain[0]) :]]
    assert added == [example["example_id"] for example in rationales[len(plain[1]) :]]
    assert {text(example) for example in labels[len(plain[0]) :]} == {"a table"}
    assert {name.split(b"/")[0] for name in added} == {b"jokes"}
    if share == 1:
        assert len(added) == 6  # of 9, three did not parse
    else:
        assert 0 < len(added) <= round(9 * share)
    facts = seqio.get_mixture_or_task("riddles_label").source.facts("train")
    assert (facts["augmentation"], facts["augmentation_share"]) == ("jokes/rationales/oracle", str(share))


def test_a_dataset_does_not_augment_itself(riddles):
    choose(augmentation="riddles")
    with pytest.raises(ValueError, match="augmentation='riddles' is the dataset itself"):
        read("riddles_label")
