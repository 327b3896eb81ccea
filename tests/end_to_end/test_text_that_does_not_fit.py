"""Labels with braces: under a vocabulary that has none nothing is trained; under bytes they are learnt; in other words, too."""

import json
import random
import time

import pytest
import seqio
from small_vocabulary import write_vocabulary
from tiny_t5 import gin_bindings

from stepdistill_jax import datasets
from stepdistill_jax.datasets import registry
from stepdistill_jax.launching import runs

LABELS = {"app": '{"queue": "tech"}', "card": "<refund>"}
LEARNS = (
    *gin_bindings({"emb_dim": 32, "mlp_dim": 64, "num_heads": 2, "head_dim": 16, "vocab_size": 384}),
    "VOCABULARY = @datasets.vocabulary()",
    "MIXTURE_OR_TASK_NAME = 'tickets_label'",
    "TASK_FEATURE_LENGTHS = {'inputs': 64, 'targets': 24}",
    "PACK = False",
    "BATCH_SIZE = 16",
    "DROPOUT_RATE = 0.0",
    "TRAIN_STEPS = 160",
    "WARMUP_STEPS = 10",
    "EVAL_PERIOD = 160",
    "CHECKPOINT_PERIOD = 160",
    "seqio.Evaluator.num_examples = 24",
)


FIRST_NUMBERS = {"train": 100, "validation": 200, "test": 300}  # no question is in two splits


def rows(split):
    drawn, first = random.Random(split), FIRST_NUMBERS[split]
    return [
        {"text": f"my {kind} {drawn.choice(['is', 'was'])} {number}\n{{help}}", "label": label}
        for number in range(first, first + (48 if split == "train" else 24))
        for kind, label in LABELS.items()
    ]


@pytest.fixture
def tickets(tmp_path, monkeypatch):
    """tickets(**settings) registers and prepares the dataset; returns DATA."""

    def make(**settings):
        to_example = lambda row: datasets.Fields(row["text"], row["label"])  # noqa: E731
        datasets.register(datasets.Dataset("tickets", to_example, rows=rows, **settings))
        datasets.prepare("tickets", data_dir=tmp_path / "data")
        return tmp_path / "data"

    monkeypatch.setenv("STEPDISTILL_VOCABULARY", str(write_vocabulary(tmp_path / "small.model")))
    yield make
    registry._DATASETS.pop("tickets", None)
    for task in [name for name in seqio.TaskRegistry.names() if name.startswith("tickets_")]:
        seqio.TaskRegistry.remove(task)
    for mixture in ("tickets_step_by_step", "tickets_step_by_step_teacher_label"):
        seqio.MixtureRegistry.remove(mixture)


def accuracy_of(folder):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line["accuracy"] for line in lines if "accuracy" in line][-1]


def test_labels_that_cannot_be_written_stop_in_seconds(tickets, train, tmp_path):
    data = tickets()
    begin = time.monotonic()
    with pytest.raises(ValueError, match=r"^tickets_label/train: 2 of 2 labels.* no '<', '{', '}'"):
        train(tmp_path / "run", *LEARNS, data_dir=data)
    assert time.monotonic() - begin < 20
    assert not list((tmp_path / "run").glob("checkpoint_*"))


def test_a_run_whose_labels_are_cut_stops_and_says_how_many(tickets, train, tmp_path, monkeypatch):
    monkeypatch.setenv("STEPDISTILL_VOCABULARY", "bytes")
    cut = "TASK_FEATURE_LENGTHS = {'inputs': 64, 'targets': 12}"
    with pytest.raises(
        ValueError, match=r"tickets_label/train: 48 of 96 labels are cut.*\['targets'\] to 18"
    ):
        train(tmp_path / "run", *LEARNS, cut, data_dir=tickets())


@pytest.mark.slow
def test_bytes_learn_labels_with_braces_and_predict_them(tickets, train, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("STEPDISTILL_VOCABULARY", "bytes")
    data = tickets()
    train(tmp_path / "run", *LEARNS, data_dir=data)
    assert accuracy_of(tmp_path / "run") > 80  # chance is 50
    long = "my card is 7 " + "x" * 80
    answers = runs.predict(
        tmp_path / "run", ["my app was 7\n{help}", "my card is 7\n{help}", long], data_dir=data
    )
    assert answers[:2] == list(LABELS.values())
    said = capsys.readouterr().err
    assert (
        "1 of 3 (33.3 %) texts are longer than the 64 tokens that training cut inputs at, and are cut" in said
    )
    assert "are changed" not in said


@pytest.mark.slow
def test_labels_in_other_words_are_learnt_and_predicted_as_labels(tickets, train, tmp_path, capsys):
    data = tickets(label_words={label: kind for kind, label in LABELS.items()})
    train(tmp_path / "run", *LEARNS, "KEEP_NEWLINES = '|'", data_dir=data)
    assert accuracy_of(tmp_path / "run") > 80
    assert (
        "96 of 96 (100 %) inputs are changed by the vocabulary: it has no '{' (in 96), '}' (in 96)."
        in capsys.readouterr().err
    )
    answers = runs.predict(tmp_path / "run", ["my app was 7\n{help}", "my card is 7\n{help}"], data_dir=data)
    assert answers == list(LABELS.values())
    assert (
        "2 of 2 (100 %) texts are changed by the vocabulary: it has no '{' (in 2), '}' (in 2)."
        in capsys.readouterr().err
    )
    predictions = next((tmp_path / "run" / "predictions").glob("*.jsonl")).read_text().splitlines()
    assert {json.loads(line)["target"] for line in predictions} == set(LABELS.values())
    assert (
        "label_words" in json.loads((tmp_path / "run" / "run.json").read_text())["sources"]["tickets_label"]
    )
