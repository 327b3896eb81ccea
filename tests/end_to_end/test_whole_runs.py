"""A run is whole: what it takes to predict lies in its folder. Choices are scored, calibrated and written for reports."""

import json
import re
import shutil

import pytest
import seqio

from stepdistill_jax import cli, datasets
from stepdistill_jax.base import messages
from stepdistill_jax.datasets import registry
from stepdistill_jax.datasets.wordproblems import VOCABULARY_PATH
from stepdistill_jax.launching import runs
from stepdistill_jax.prediction import Predictor
from stepdistill_jax.prediction.calibration import read_calibration
from stepdistill_jax.prediction.description import read_description
from stepdistill_jax.tables import open_table

CHOICES = ("more apples", "fewer", "pears")
NUMBERS = {"train": range(100, 148), "validation": range(200, 224), "test": range(300, 324)}


def test_a_run_says_what_its_student_is(finished_run):
    described = read_description(finished_run)
    assert (described.task, described.method) == ("wordproblems_step_by_step", "step_by_step")
    assert (described.label_prefix, described.rationale_prefix) == ("[label] ", "[rationale] ")
    assert described.feature_lengths == {"inputs": 96, "targets": 64}
    assert (described.network["emb_dim"], described.network["vocab_size"]) == (16, 1024)
    assert described.learns_rationales
    assert not described.own_task
    assert described.dataset["name"] == "wordproblems"
    assert described.content == json.loads((finished_run / "run.json").read_text())["content"]
    copied = finished_run / described.vocabulary.file
    assert copied.read_bytes() == VOCABULARY_PATH.read_bytes()


def test_without_it_a_run_is_asked_by_its_gin_file(finished_run, tmp_path, data_dir):
    texts = ["Mia has 2 apples and buys 3 more.", "", "Tom has 3 cars."]
    for name in ("config.gin", "checkpoint_24"):
        (tmp_path / name).symlink_to(finished_run / name)
    answers = runs.predict(tmp_path, texts, data_dir=data_dir)
    assert answers == runs.predict(finished_run, texts)
    assert answers[1] == ""


def rows(split):
    return [
        {"text": f"Mia has {number} {word}.", "label": CHOICES[(number + len(word)) % 3]}
        for number in NUMBERS[split]
        for word in ("apples", "pears")
    ]


@pytest.fixture(scope="module")
def fruit_data(tmp_path_factory):
    """DATA with a dataset of three choices, registered as a user's own file would."""
    folder = tmp_path_factory.mktemp("fruit") / "data"
    datasets.register(
        datasets.Dataset(
            "fruit",
            lambda row: datasets.Fields(row["text"], row["label"]),
            rows=rows,
            choices=CHOICES,
            embedded=True,
        )
    )
    datasets.prepare("fruit", data_dir=folder)
    yield folder
    registry._DATASETS.pop("fruit")
    for task in [name for name in seqio.TaskRegistry.names() if name.startswith("fruit_")]:
        seqio.TaskRegistry.remove(task)
    for mixture in [name for name in seqio.MixtureRegistry.names() if name.startswith("fruit_")]:
        seqio.MixtureRegistry.remove(mixture)


@pytest.fixture(scope="module")
def fruit_run(fruit_data, train, tmp_path_factory):
    """A student of three choices, trained and evaluated; its folder."""
    folder = tmp_path_factory.mktemp("fruit_run") / "run"
    train(folder, "MIXTURE_OR_TASK_NAME = 'fruit_label'", data_dir=fruit_data)
    runs.evaluate(folder, data_dir=fruit_data)
    return folder


def scored(run, split):
    head, *lines = (run / "predictions" / f"choices-{split}-24.jsonl").read_text().splitlines()
    return json.loads(head), [json.loads(line) for line in lines]


def test_an_evaluation_calibrates_and_writes_every_choice_s_probability(fruit_run):
    measured = read_calibration(fruit_run)
    assert (measured.step, measured.num_examples) == (24, 48)
    for split in ("validation", "test"):
        head, lines = scored(fruit_run, split)
        assert (head["choices"], head["temperature"], head["num_examples"]) == (
            list(CHOICES),
            measured.temperature,
            48,
        )
        assert [line["inputs"] for line in lines] == [row["text"] for row in rows(split)]
        for line in lines:
            assert sum(line["probabilities"]) == pytest.approx(1.0, abs=1e-6)
            assert line["probability"] == max(line["probabilities"])
            assert line["predicted"] == CHOICES[line["probabilities"].index(line["probability"])]
    head, lines = scored(fruit_run, "validation")
    assert head["content"] == measured.content
    right = sum(line["predicted"] == line["label"] for line in lines)
    assert measured.accuracy == pytest.approx(right / 48)


def test_predictions_are_those_of_the_evaluation(fruit_run):
    _, lines = scored(fruit_run, "test")
    predictions = Predictor(fruit_run)([line["inputs"] for line in lines])
    assert [prediction.label for prediction in predictions] == [line["predicted"] for line in lines]
    for line, prediction in zip(lines, predictions, strict=True):
        assert list(prediction.probabilities.values()) == pytest.approx(line["probabilities"], abs=1e-5)


def test_the_command_never_answers_outside_the_choices(fruit_run, capsys):
    assert cli.main(["predict", str(fruit_run), "Mia has 300 apples.", "{}", "pears " * 200]) == 0
    shown = capsys.readouterr()
    assert set(shown.out.splitlines()) <= set(CHOICES)
    assert (
        "1 of 3 (33.3 %) texts are longer than the 96 tokens that training cut inputs at, and are cut"
        in shown.err
    )


def test_a_table_is_answered_and_a_run_calibrated_first_where_the_data_are(
    fruit_run, fruit_data, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(messages, "_said", set())
    run, table = tmp_path / "run", tmp_path / "new.csv"
    shutil.copytree(fruit_run, run)
    (run / "calibration.json").unlink()
    table.write_text("n,question\n1,Mia has 300 apples.\n2,Mia has 301 pears.\n")
    command = ["predict", str(run), "--input", str(table), "--inputs", "question"]
    assert cli.main([*command, "--output", str(tmp_path / "a.csv"), "--data_dir", str(tmp_path)]) == 0
    assert "not calibrated, as fruit's validation split is not here" in capsys.readouterr().err
    assert cli.main([*command, "--output", str(tmp_path / "b.csv"), "--data_dir", str(fruit_data)]) == 0
    shown = capsys.readouterr()
    assert "calibrated at step 24 on 48 validation examples: temperature" in shown.err
    assert shown.out == f"{tmp_path / 'b.csv'}: 2 rows, with label, probability\n"
    assert read_calibration(run) == read_calibration(fruit_run)
    before, after = ([row.values for row in open_table(tmp_path / name)] for name in ("a.csv", "b.csv"))
    assert [row["label"] for row in before] == [row["label"] for row in after]
    assert [row["n"] for row in after] == ["1", "2"]
    said = json.loads((run / "student.json").read_text())
    said["dataset"]["inputs"] = "{question}"  # as of a student that was trained on a table
    (run / "student.json").write_text(json.dumps(said))
    assert cli.main([*command[:4], "--output", str(tmp_path / "c.csv")]) == 0
    assert (tmp_path / "c.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--input", "new.csv"], "--output is missing"),
        (["--output", "new.csv"], "--input is missing"),
        (["--input", "new.csv", "--output", "a.csv"], "--inputs is missing: .* was not trained on a table"),
        (
            ["--input", "new.csv", "--output", "a.csv", "--inputs", "x"],
            "has no column 'x'; it has 'n', 'question'",
        ),
        (["new.csv"], "new.csv is a file, not a text; give --input new.csv"),
        (["--abstain_below", "0.5", "text"], "--abstain_below is for a table"),
        (["--input", "new.csv", "--output", "a.csv", "text"], r"both a text \('text'\) and a table"),
    ],
)
def test_what_is_missing_or_too_much_is_one_line(fruit_run, tmp_path, monkeypatch, capsys, arguments, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "new.csv").write_text("n,question\n1,Mia has 300 apples.\n")
    assert cli.main(["predict", str(fruit_run), *arguments]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert re.search(said, line), line
