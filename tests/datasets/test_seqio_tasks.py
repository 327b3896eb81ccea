"""The SeqIO tasks of a dataset: what the student reads and writes, token by token, and how it is scored."""

import numpy as np
import pytest
import seqio
from riddles import RIDDLES, write_jsonl

from stepdistill_jax import datasets
from stepdistill_jax.datasets import prefixes, record_io, seqio_tasks, task_sources
from stepdistill_jax.engine.data.dataset_config import DatasetConfig, source_facts
from stepdistill_jax.student.features import StepByStepFeatureConverter

TASKS = {
    f"riddles_{task}"
    for task in (
        *("label", "teacher_label", "rationale"),
        *("rationale_then_label", "rationale_then_teacher_label", "rationale_as_input"),
    )
}
MIXTURES = {"riddles_step_by_step", "riddles_step_by_step_teacher_label"}

RATIONALE_FEATURES = {
    **dict.fromkeys(
        ("example_id", "dataset", "split", "inputs", "label", "teacher_label", "rationale", "raw_output"),
        "text",
    ),
    **dict.fromkeys(
        ("finish_reason", "teacher", "prompt_hash", "sampling", "unparsed_reason", "source_split"), "text"
    ),
    **dict.fromkeys(("prompt_tokens", "completion_tokens", "source_row"), "int"),
    "has_label": "bool",
}


def write_rationales(data_folder, teacher="sphinx", splits=("train", "test"), name="riddles", hinted=()):
    """Every third answer is unparsed; the teacher always says 'a table'; those of the ids `hinted` were told the label."""

    def records(split):
        for example in datasets.read_examples(name, split):
            texts = dict.fromkeys(RATIONALE_FEATURES, "") | {"teacher": teacher, "source_split": split}
            numbers = {"prompt_tokens": -1, "completion_tokens": 5, "source_row": example.source_row}
            parsed = example.source_row % 3 > 0
            yield {
                **texts,
                **numbers,
                "sampling": '{"hinted": true}' if example.example_id in hinted else "{}",
                "example_id": example.example_id,
                "inputs": example.inputs,
                "label": example.label or "",
                "has_label": example.label is not None,
                "teacher_label": "a table" if parsed else "",
                "rationale": example.explanation if parsed else "",
                "unparsed_reason": "" if parsed else "no answer marker",
            }

    record_io.write_records(
        data_folder / name / "rationales" / teacher,
        name=name,
        features=RATIONALE_FEATURES,
        splits={split: records(split) for split in splits},
    )


@pytest.fixture
def riddles(register_dataset, data_folder, source_folder):
    """Riddles, prepared and taught."""
    dataset = register_dataset()
    datasets.prepare("riddles", from_folder=source_folder)
    write_rationales(data_folder)
    return dataset


def read(name, split="train", lengths=None):
    task = seqio.get_mixture_or_task(name)
    dataset = task.get_dataset(sequence_length=lengths, split=split, shuffle=False, num_epochs=1)
    return list(dataset.as_numpy_iterator())


def text(example, feature="targets"):
    return datasets.embedded_vocabulary().decode([int(token) for token in example[feature]])


def test_registering_a_dataset_registers_its_tasks_and_mixtures(register_dataset):
    register_dataset()
    assert set(seqio.TaskRegistry.names()) >= TASKS
    assert set(seqio.MixtureRegistry.names()) >= MIXTURES


def test_registering_opens_no_file(register_dataset, data_folder):
    register_dataset(embedded=False)
    task = seqio.get_mixture_or_task("riddles_label")
    assert task.output_features["targets"].vocabulary == datasets.vocabulary()
    assert not data_folder.exists()


def test_label_task_reads_the_prefixed_question_and_writes_the_gold_label(riddles):
    examples = read("riddles_label")
    assert len(examples) == 10
    assert [text(example) for example in examples] == [row["answer"] for row in RIDDLES[:10]]
    vocabulary = datasets.embedded_vocabulary()
    assert examples[0]["inputs"].tolist() == [
        *vocabulary.encode("[label] What has 3 legs?"),
        vocabulary.eos_id,
    ]
    assert examples[0]["inputs_pretokenized"] == b"[label] What has 3 legs?"
    assert examples[0]["targets_pretokenized"] == b"a table"
    assert examples[0]["example_id"] == b"riddles/train/0"


def test_rationale_task_leaves_out_unparsed_answers(riddles):
    examples = read("riddles_rationale")
    assert [example["example_id"] for example in examples] == [
        b"riddles/train/%d" % n for n in (1, 2, 4, 5, 7, 8)
    ]
    assert examples[0]["inputs_pretokenized"] == b"[rationale] What has 4 legs?"
    assert examples[0]["targets_pretokenized"] == b"It stands on 4."


def test_teacher_label_task_writes_what_the_teacher_said(riddles):
    assert {example["targets_pretokenized"] for example in read("riddles_teacher_label")} == {b"a table"}


def test_a_student_of_teacher_labels_is_evaluated_on_every_question(riddles, data_folder):
    write_rationales(data_folder, splits=("train",))  # a teacher that was asked the training questions only
    evaluated, gold = read("riddles_teacher_label", split="test"), read("riddles_label", split="test")
    assert [e["example_id"] for e in evaluated] == [e["example_id"] for e in gold]
    assert [e["targets_pretokenized"] for e in evaluated] == [e["targets_pretokenized"] for e in gold]


@pytest.mark.parametrize(("name", "task_id"), [("label", 1), ("teacher_label", 1), ("rationale", 2)])
def test_every_target_token_carries_its_task_end_of_sequence_included(riddles, name, task_id):
    for lengths in (None, {"inputs": 8, "targets": 3, "task_ids": 3}, {"inputs": 8, "targets": 3}):
        for example in read(f"riddles_{name}", lengths=lengths):
            assert example["targets"][-1] == 1
            assert example["task_ids"].dtype == np.int32
            assert example["task_ids"].tolist() == [task_id] * len(example["targets"])
            if lengths:
                assert len(example["targets"]) <= 3
                assert len(example["inputs"]) <= 8


def test_mixture_takes_turns_between_label_and_rationale(riddles):
    mixture = seqio.get_mixture_or_task("riddles_step_by_step")
    assert [mixture.get_rate(task) for task in mixture.tasks] == [1.0, 1.0]
    assert {task.name for task in mixture.tasks} == {"riddles_label", "riddles_rationale"}
    dataset = mixture.get_dataset(
        sequence_length={"inputs": 64, "targets": 64}, split="train", num_epochs=None, seed=0
    )
    seen = [int(example["task_ids"][0]) for example in dataset.take(200).as_numpy_iterator()]
    assert 60 < seen.count(1) < 140


def test_prefixes_follow_the_setting(riddles, monkeypatch):
    monkeypatch.setenv("STEPDISTILL_PREFIXES", "code")
    assert read("riddles_label")[0]["inputs_pretokenized"] == b"predict: What has 3 legs?"
    assert read("riddles_rationale")[0]["inputs_pretokenized"] == b"explain: What has 4 legs?"
    monkeypatch.setenv("STEPDISTILL_PREFIXES", "poem")
    with pytest.raises(ValueError, match=r"prefixes='poem' .*STEPDISTILL_PREFIXES.*; use 'paper' or 'code'"):
        read("riddles_label")


def test_sources_say_whose_rationales_they_read_and_how_inputs_begin(riddles, data_folder, monkeypatch):
    write_rationales(data_folder, "pythia")
    monkeypatch.setenv("STEPDISTILL_TEACHER", "pythia")
    monkeypatch.setenv("STEPDISTILL_PREFIXES", "code")
    cfg = DatasetConfig(
        "riddles_step_by_step", task_feature_lengths={}, split="train", batch_size=1, shuffle=False, seed=0
    )
    assert source_facts(cfg) == {
        "riddles_label": {"records": "riddles/examples", "prefixes": "code"},
        "riddles_rationale": {"records": "riddles/rationales/pythia", "prefixes": "code"},
    }


def test_accuracy_counts_matches_in_percent(riddles):
    accuracy = seqio_tasks.accuracy_of(riddles)
    assert accuracy(["a stool", "a table"], [" a stool", "a chair"]) == {
        "accuracy": 50.0,
        "num_correct": 1,
        "num_examples": 2,
    }


def test_accuracy_of_equations_compares_values(register_dataset):
    accuracy = seqio_tasks.accuracy_of(register_dataset(metric="equation"))
    assert accuracy(["( 8.0 - 3.0 )"] * 4, ["5", "2 + 3", "(8, 3)", "__import__('os')"])["num_correct"] == 2


def test_label_tasks_are_scored_against_the_gold_label_and_rationales_are_not(riddles):
    for name in ("riddles_label", "riddles_teacher_label"):
        task = seqio.get_mixture_or_task(name)
        example = read(name, split="test")[0]
        gold = task.postprocess_fn("anything", example=example, is_target=True)
        row = int(example["example_id"].decode().rsplit("/", 1)[-1])
        assert gold == RIDDLES[10 + row]["answer"]
        assert task.postprocess_fn(" a table ", example=example, is_target=False) == "a table"
        assert task.predict_metric_fns
    assert not seqio.get_mixture_or_task("riddles_rationale").predict_metric_fns


def test_seqio_evaluator_scores_a_student_that_knows_the_answers(riddles):
    evaluator = seqio.Evaluator(
        "riddles_label",
        feature_converter=StepByStepFeatureConverter(pack=False),
        eval_split="test",
        sequence_length={"inputs": 64, "targets": 16, "task_ids": 16},
    )
    vocabulary = datasets.embedded_vocabulary()

    def predict(dataset):
        rows = list(enumerate(dataset.as_numpy_iterator()))
        return [(index, vocabulary.encode("a table")) for index, _ in rows]

    metrics, _ = evaluator.evaluate(compute_metrics=True, step=0, predict_fn=predict)
    values = {name: getattr(v, "value", v) for name, v in metrics.result()["riddles_label"].items()}
    expected = sum(row["answer"] == "a table" for row in RIDDLES[10:])
    assert values == {"accuracy": 100.0 * expected / 2, "num_correct": expected, "num_examples": 2}


def test_rows_without_gold_labels_train_on_teacher_labels_only(register_dataset, data_folder, source_folder):
    write_jsonl(source_folder / "train.jsonl", [{**row, "answer": None} for row in RIDDLES[:6]])
    register_dataset()
    datasets.prepare("riddles", from_folder=source_folder)
    write_rationales(data_folder)
    with pytest.raises(ValueError, match=r"riddles: .*6 rows without a gold label.*teacher_label") as caught:
        read("riddles_label")
    assert "\n" not in str(caught.value)
    assert len(read("riddles_teacher_label")) == 4
    assert len(read("riddles_label", split="test")) == 2


def test_what_is_missing_is_said_in_one_line(register_dataset, data_folder, source_folder):
    register_dataset()
    with pytest.raises(FileNotFoundError, match="Run: stepdistill prepare riddles"):
        read("riddles_label")
    datasets.prepare("riddles", from_folder=source_folder)
    with pytest.raises(FileNotFoundError, match="run: stepdistill teach riddles"):
        read("riddles_rationale")
    write_rationales(data_folder, splits=("train",))
    with pytest.raises(ValueError, match="has no split 'test'; it has train"):
        read("riddles_rationale", split="test")


def test_the_teacher_is_the_named_one_else_the_default_else_the_only_one(
    register_dataset, data_folder, source_folder, monkeypatch
):
    register_dataset(default_teacher="oracle")
    datasets.prepare("riddles", from_folder=source_folder)
    write_rationales(data_folder, "sphinx")
    assert task_sources.rationales_folder(datasets.get("riddles")).name == "sphinx"
    write_rationales(data_folder, "pythia")
    with pytest.raises(
        FileNotFoundError, match="several teachers, pythia, sphinx: name one, by the macro TEACHER"
    ):
        read("riddles_rationale")
    write_rationales(data_folder, "oracle")
    assert task_sources.rationales_folder(datasets.get("riddles")).name == "oracle"
    monkeypatch.setenv("STEPDISTILL_TEACHER", "pythia")
    assert task_sources.rationales_folder(datasets.get("riddles")).name == "pythia"
    monkeypatch.setenv("STEPDISTILL_TEACHER", "delphi")
    with pytest.raises(
        FileNotFoundError, match=r"No rationales of delphi in .*run: stepdistill teach riddles"
    ):
        read("riddles_rationale")


def test_prefixes_and_teacher_may_be_chosen_in_gin(monkeypatch, tmp_path):
    import gin

    from stepdistill_jax.datasets import choices
    from stepdistill_jax.launching import launch

    monkeypatch.setenv("STEPDISTILL_PREFIXES", "paper")
    file = tmp_path / "choices.gin"
    file.write_text(
        "from __gin__ import dynamic_registration\nfrom stepdistill_jax import datasets\n"
        "datasets.task_choices:\n  prefixes = 'code'\n  teacher = 'pythia'\n"
    )
    try:
        launch.read_config([str(file)], [])
        assert prefixes.prefix(datasets.LABEL_TASK_ID) == "predict: "
        chosen = choices.task_choices()
        assert (chosen.prefixes, chosen.teacher) == ("code", "pythia")
        assert "teacher = 'pythia'" in gin.config_str()  # kept with the run
    finally:
        gin.clear_config()
    assert prefixes.prefix(datasets.LABEL_TASK_ID) == "[label] "
