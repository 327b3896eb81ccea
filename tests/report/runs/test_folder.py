"""Run folders are read as they lie, in progress or not, and what is wrong with one is said in one line."""

import json
import math
import os
import shutil
from pathlib import Path

import pytest

from stepdistill_jax.base.text_fit import FeatureFit, TaskFit
from stepdistill_jax.report.runs.folder import read_run, read_runs


def append(path: Path, text: str) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(text)


def test_a_finished_run_is_read_whole(run_folder):
    run = read_run(run_folder("a"), name="a")
    assert (run.method, run.dataset, run.num_steps) == ("step_by_step", "svamp", 400)
    assert [step for step, _ in run.curve("label_loss", "train")] == list(range(20, 401, 20))
    assert [accuracy.num_correct for accuracy in run.accuracies("validation")] == [15, 30, 45, 60]
    assert run.test_accuracy().percent == 60.0
    assert run.seconds == 200.0
    assert run.tokens_per_second == 9200.0
    assert run.notes == ()


def test_a_torn_last_line_is_left_out_with_a_note(run_folder):
    folder = run_folder("a")
    append(folder / "metrics.jsonl", '{"step": 420, "split": "tr')
    run = read_run(folder, name="a")
    assert run.num_steps == 400
    assert any("metrics.jsonl (line 29) is cut off" in note for note in run.notes)


def test_a_torn_line_in_the_middle_is_an_error_with_its_place(run_folder):
    folder = run_folder("a")
    append(folder / "metrics.jsonl", '{"step": 420,\n{"step": 440, "split": "train", "loss": 1.0}\n')
    with pytest.raises(ValueError, match=r"metrics\.jsonl:29: not JSON"):
        read_run(folder, name="a")


def test_a_missing_folder_and_missing_metrics_are_said_in_one_line(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"nowhere: no such run folder; give the MODEL_DIR"
    ) as missing:
        read_runs([tmp_path / "nowhere"])
    with pytest.raises(FileNotFoundError, match=r"no metrics\.jsonl in this folder; give") as empty:
        read_runs([tmp_path])
    (tmp_path / "metrics.jsonl").write_text('{"st')
    with pytest.raises(ValueError, match="no complete line yet") as torn:
        read_runs([tmp_path])
    assert all("\n" not in str(error.value) for error in (missing, empty, torn))


def test_no_run_at_all_is_an_error():
    with pytest.raises(ValueError, match="name at least one"):
        read_runs([])


def test_a_run_without_settings_is_read_with_notes(run_folder):
    folder = run_folder("a")
    for name in ("run.json", "config.gin", "timing.jsonl"):
        (folder / name).unlink()
    run = read_run(folder, name="a")
    assert (run.method, run.dataset, run.seconds, run.tokens_per_second) == ("unknown", "svamp", None, None)
    assert len(run.notes) == 2


def test_losses_that_are_not_finite_are_kept_as_gaps_and_noted(run_folder):
    folder = run_folder("a")
    append(folder / "metrics.jsonl", '{"step": 420, "split": "train", "loss": NaN, "label_loss": NaN}\n')
    append(
        folder / "metrics.jsonl",
        '{"step": 440, "split": "train", "loss": Infinity, "label_loss": Infinity}\n',
    )
    run = read_run(folder, name="a")
    assert [math.isnan(value) for _, value in run.curve("label_loss", "train")[-3:]] == [False, True, True]
    assert run.last("label_loss") is None
    assert "train loss is not finite at step 420" in run.notes


def test_a_run_without_rationales_has_no_rationale_loss(run_folder):
    run = read_run(run_folder("a", rationales=False), name="a")
    assert run.curve("rationale_loss", "train") == []
    assert run.last("rationale_loss") is None


def test_wall_time_adds_up_over_restarts(run_folder):
    folder = run_folder("a")
    append(folder / "timing.jsonl", '{"step": 500, "seconds": 30.0}\n{"step": 600, "seconds": 80.0}\n')
    assert read_run(folder, name="a").seconds == 280.0


def test_steps_of_a_pretrained_checkpoint_are_not_counted(run_folder):
    folder = run_folder("a")
    settings = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(settings | {"first_step": 300}))
    assert read_run(folder, name="a").num_steps == 100


def test_the_last_tested_step_is_taken_not_the_best(run_folder):
    folder = run_folder("a")
    better = {"step": 200, "split": "test", "task": "svamp_label", "num_correct": 190, "num_examples": 200}
    append(folder / "test_eval" / "metrics.jsonl", json.dumps(better) + "\n")
    assert read_run(folder, name="a").test_accuracy().num_correct == 120


def test_a_later_evaluation_of_the_same_step_replaces_the_earlier_one(run_folder):
    folder = run_folder("a")
    again = {"step": 400, "split": "test", "task": "svamp_label", "num_correct": 121, "num_examples": 200}
    (folder / "again").mkdir()
    (folder / "again" / "metrics.jsonl").write_text(json.dumps(again) + "\n")
    os.utime(folder / "test_eval" / "metrics.jsonl", (1000, 1000))
    assert read_run(folder, name="a").test_accuracy().num_correct == 121


def test_the_gold_label_task_is_followed_where_several_report(run_folder):
    folder = run_folder("a")
    other = {
        "step": 400,
        "split": "validation",
        "task": "svamp_rationale",
        "label_loss": None,
        "rationale_loss": 2.5,
    }
    append(folder / "metrics.jsonl", json.dumps(other) + "\n")
    run = read_run(folder, name="a")
    assert run.curve("rationale_loss", "validation") == [(400, 2.5)]
    assert len(run.curve("label_loss", "validation")) == 4


def test_runs_of_equal_names_are_told_apart_and_repeats_count_once(run_folder, tmp_path):
    one, two = run_folder("x/run"), run_folder("y/run")
    assert [run.name for run in read_runs([one, two, one])] == ["x/run", "y/run"]


@pytest.mark.parametrize(
    ("task", "dataset", "method"),
    [
        ("cqa_label", "cqa", "fine_tuning"),
        ("cqa_teacher_label", "cqa", "task_distillation"),
        ("my_set_step_by_step", "my_set", "step_by_step"),
        ("cqa_step_by_step_teacher_label", "cqa", "step_by_step_teacher_label"),
        ("mine", "svamp", "mine"),
    ],
)
def test_method_and_dataset_are_read_from_the_task_where_run_json_does_not_say(
    run_folder, task, dataset, method
):
    folder = run_folder("a")
    (folder / "run.json").write_text(json.dumps({"mixture_or_task_name": task}))
    run = read_run(folder, name="a")
    assert (run.dataset, run.method) == (dataset, method)


def test_the_share_of_training_texts_that_did_not_fit_is_noted(run_folder):
    folder = run_folder("a")
    settings = json.loads((folder / "run.json").read_text())
    cut = FeatureFit(num_examples=40, num_cut=10, num_cut_tokens=90, num_tokens=400, longest=30, room=8)
    settings["text_fit"] = {"svamp_rationale": TaskFit({"inputs": FeatureFit(40), "targets": cut}).as_dict()}
    (folder / "run.json").write_text(json.dumps(settings))
    assert read_run(folder, name="a").notes == (
        "svamp_rationale/train: 10 of 40 (25 %) targets are cut at 8 tokens: 90 of 400 tokens are left out, the longest has 30.",
    )


def test_a_text_fit_of_another_form_is_an_error_that_names_the_file(run_folder):
    folder = run_folder("a")
    settings = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(settings | {"text_fit": {"svamp_label": 3}}))
    with pytest.raises(ValueError, match=r"run\.json: its text_fit is not what a run writes"):
        read_run(folder, name="a")


def test_a_copied_run_does_not_count_twice(run_folder, tmp_path):
    first = run_folder("a")
    settings = json.loads((first / "run.json").read_text())
    starts = [{"started": "2026-01-01T00:00:00", "step": 0}]
    (first / "run.json").write_text(json.dumps({**settings, "starts": starts}))
    copy = Path(shutil.copytree(first, tmp_path / "copy"))
    with pytest.raises(
        ValueError, match=r"(copy is a copy of .*a|a is a copy of .*copy): both have the same"
    ):
        read_runs([first, copy])
    (copy / "run.json").write_text(json.dumps({**settings, "starts": [{**starts[0], "started": "later"}]}))
    assert [run.name for run in read_runs([first, copy])] == ["a", "copy"]  # the same seed, trained again


def test_predictions_of_another_split_are_named(run_folder):
    folder = run_folder("a")
    [path] = folder.glob("predictions/*-test-400.jsonl")
    renamed = path.rename(path.with_name(path.name.replace("-test-", "-validation-")))
    with pytest.raises(
        ValueError, match=r"validation-400\.jsonl:1: svamp/test/0 is not of the validation split"
    ):
        read_run(folder, name="a").predictions("validation")
    assert renamed.exists()
