"""A sweep of tiny students on the embedded problems: what is done is left alone, what fails is named, what is killed goes on."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest
from test_mixed_data import change

from stepdistill_jax import cli
from stepdistill_jax.experiments import run_files, single_run
from stepdistill_jax.experiments.experiment_file import read_experiment
from stepdistill_jax.experiments.planned_run import planned_runs
from stepdistill_jax.report import write_sweep_report

LONGEST_WAIT_SECONDS = 300
# Made anew in every process that works on a run.
OF_PROCESSES = ("wall_seconds",)


@pytest.fixture(scope="module")
def write_experiment(shrunk, tmp_path_factory):
    """write_experiment(**keys): an experiment file of 4 steps a run with these keys besides."""

    def write(**keys):
        path = tmp_path_factory.mktemp("experiment") / "tiny.toml"
        lines = {
            "datasets": ["wordproblems"],
            "teachers": ["worked"],
            "seeds": [0],
            "steps": 4,
            "eval_period": 2,
            "batch_rows": 8,
            "gin": [
                line
                for line in shrunk
                if "STEPS =" not in line and "PERIOD" not in line and "BATCH" not in line
            ],
            **keys,
        }
        also = lines.pop("also", "")
        text = "".join(f"{name} = {json.dumps(value)}\n" for name, value in lines.items())
        path.write_text(
            f'{text}\n{also}\n[student.tiny]\ngin_files = ["gin/dsbs_t5_tiny.gin"]\n', encoding="utf-8"
        )
        return path

    return write


@pytest.fixture
def sweep(data_dir, compiled_once, tmp_path):
    """sweep(file, *flags): the command with its output in tmp_path/sweep; gives the exit status."""

    def run(file, *flags):
        return cli.main(
            ["sweep", str(file), "--output", str(tmp_path / "sweep"), "--data_dir", str(data_dir), *flags]
        )

    return run


def results(output):
    return {path.parent.name: json.loads(path.read_text()) for path in output.glob("runs/*/result.json")}


def test_published_numbers_beside_the_file_are_taken_along(write_experiment, sweep, tmp_path):
    file = write_experiment(methods=["few_shot_cot"])
    text = (
        "dataset,method,teacher,size,parameters,train_share,percent,source\n"
        "svamp,fine_tuning,,base,220e6,1.0,50.0,Someone 2020\n"
    )
    file.with_name("published.csv").write_text(text, encoding="utf-8")
    assert sweep(file) == 0
    assert (tmp_path / "sweep" / "published.csv").read_text(encoding="utf-8") == text


@pytest.mark.slow
def test_a_run_alone_says_what_was_chosen_and_what_it_cost(write_experiment, sweep, tmp_path, capsys):
    file = write_experiment(methods=["step_by_step"], shares=[0.5], rationales=True)
    name = "wordproblems-step_by_step-worked-tiny-s0.5-l1-seed0"
    assert sweep(file, "--only", name) == 0
    folder = tmp_path / "sweep" / "runs" / name
    result = json.loads((folder / "result.json").read_text())
    assert result["run"] == {
        "dataset": "wordproblems", "method": "step_by_step", "teacher": "worked", "size": "tiny",
        "gin_file": "gin/dsbs_t5_tiny.gin", "train_share": 0.5, "rationale_weight": 1.0, "pairing": "mixture",
        "prefixes": "paper", "augmentation": None, "seed": 0,
    }  # fmt: skip
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    validated = {row["step"]: row for row in rows if row["split"] == "validation" and "num_correct" in row}
    assert set(validated) == {2, 4}
    best = max(validated.values(), key=lambda row: (row["num_correct"], -row["step"]))
    assert (result["step"], result["validation"]["num_correct"]) == (best["step"], best["num_correct"])
    assert result["test"]["num_examples"] == 8
    assert (result["train_examples"], result["train_steps"]) == (24, 4)
    assert [path.name for path in folder.glob("checkpoint_*")] == [f"checkpoint_{best['step']}"]
    assert (folder / "test_eval" / "predictions" / f"wordproblems_label-test-{best['step']}.jsonl").exists()
    written = folder / "inferences" / "test" / "wordproblems_rationale-predict.jsonl-00000-of-00001"
    assert "prediction" in json.loads(written.read_text().splitlines()[0])
    # 6 operations a parameter and token, but for the embeddings (16 x 1,024), within what attention adds.
    tokens = 4 * 8 * (96 + 64) / 2  # each token is the encoder's or the decoder's
    assert (
        6 * (result["parameters"] - 16 * 1024) * tokens / 3
        < result["training_flops"]
        < 6 * result["parameters"] * tokens * 3
    )
    assert 0 < result["flops_per_prediction"] < result["training_flops"]

    before = (folder / "result.json").stat().st_mtime_ns
    assert sweep(file, "--only", name) == 0
    assert "done before" in capsys.readouterr().err
    assert (folder / "result.json").stat().st_mtime_ns == before
    changed = write_experiment(methods=["step_by_step"], shares=[0.5], steps=6)
    assert sweep(changed) == 2
    assert (
        "was begun with 'TRAIN_STEPS = 4', and the experiment file now has 'TRAIN_STEPS = 6'"
        in capsys.readouterr().err
    )


def test_the_teacher_itself_is_scored_without_training(write_experiment, sweep, tmp_path):
    assert (
        sweep(write_experiment(methods=["few_shot_cot"]), "--only", "wordproblems-few_shot_cot-worked") == 0
    )
    [result] = results(tmp_path / "sweep").values()
    assert result["test"] == {"num_correct": 48, "num_examples": 48, "accuracy": 100.0}
    assert result["step"] is result["parameters"] is None


@pytest.mark.slow
def test_a_sweep_goes_on_past_a_failed_run_and_names_it(write_experiment, sweep, tmp_path, capsys):
    broken = "[gin_for]\ntask_distillation = [\"infer_eval/utils.DatasetConfig.split = 'nothing'\"]"
    file = write_experiment(methods=["task_distillation", "few_shot_cot"], also=broken)
    assert sweep(file) == 1
    failed, done = "wordproblems-task_distillation-worked-tiny-s1-seed0", "wordproblems-few_shot_cot-worked"
    assert set(results(tmp_path / "sweep")) == {done}
    last = capsys.readouterr().err.strip().splitlines()
    assert any(
        line.startswith(f"failed: {failed}: stepdistill: error: ") and "nothing" in line for line in last
    )
    page = (tmp_path / "sweep" / "report" / "index.html").read_text(encoding="utf-8")
    assert f"failed, and in no table: {failed}: stepdistill: error: " in page

    assert sweep(file, "--list") == 0
    listed = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in listed] == [["failed", failed], ["done", done]]
    assert "nothing" in listed[0]


def test_a_second_sweep_in_the_same_folder_is_refused(write_experiment, sweep, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(run_files, "_LONGEST_WAIT_SECONDS", 0.2)
    with run_files.only_one(tmp_path / "sweep" / "locks" / "sweep", "this test"):
        assert sweep(write_experiment(methods=["few_shot_cot"])) == 73
    assert re.search(r"SWEEP \S+ is in use: process \d+ on \S+ is at work on it", capsys.readouterr().err)


def test_data_that_are_missing_are_named_before_anything_is_run(write_experiment, tmp_path, capsys):
    file = write_experiment(methods=["few_shot_cot"], datasets=["svamp"], teachers=["palm-540b"])
    nowhere = ["--output", str(tmp_path / "sweep"), "--data_dir", str(tmp_path / "nothing")]
    assert cli.main(["sweep", str(file), *nowhere]) == 2
    assert "No examples of svamp" in capsys.readouterr().err
    assert not (tmp_path / "sweep" / "runs").exists()


@pytest.mark.slow
def test_a_sweep_killed_three_times_ends_like_one_that_was_not(
    write_experiment, data_dir, compiled_once, tmp_path
):
    without = "[gin_for]\nwordproblems = ['train.train_eval_dataset_cfg = None']"
    file = write_experiment(
        methods=["fine_tuning", "step_by_step"], shares=[0.5, 1.0], seeds=[0, 1, 2], also=without
    )
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    command = [
        sys.executable,
        "-m",
        "stepdistill_jax.cli",
        "sweep",
        str(file),
        "--output",
        str(killed),
        "--jobs",
        "2",
    ]
    command += ["--data_dir", str(data_dir)]

    def begin():
        return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=dict(os.environ))

    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL):
        shutil.rmtree(
            killed / "logs", ignore_errors=True
        )  # so that a log tells of this process, not of one before
        process = begin()
        wait_for_log(killed, process)
        time.sleep(random.uniform(0.5, 6.0))
        process.send_signal(number)
        _, said = process.communicate(timeout=LONGEST_WAIT_SECONDS)
        assert process.returncode == (-number if number == signal.SIGKILL else 75), said
    process = begin()
    _, said = process.communicate(timeout=2 * LONGEST_WAIT_SECONDS)
    assert process.returncode == 0, said

    for run in planned_runs(read_experiment(file)):  # each alone, in this process
        single_run.do_run(
            run, output=whole, data_dir=data_dir, command=results(killed)[run.run_id]["command"]
        )
    assert len(results(whole)) == 12
    write_sweep_report(whole)
    for table in ("methods", "comparisons"):
        tables = [folder / "report" / "tables" / f"{table}.csv" for folder in (killed, whole)]
        assert tables[0].read_bytes() == tables[1].read_bytes()
    for name, result in results(whole).items():
        of_killed = results(killed)[name]
        for key in OF_PROCESSES:
            assert result.pop(key) > 0
            assert of_killed.pop(key) > 0
        assert of_killed == result
        for log in ("metrics.jsonl", "plan.json"):
            assert (killed / "runs" / name / log).read_bytes() == (whole / "runs" / name / log).read_bytes()


def wait_for_log(output, process):
    """Until the sweep has started a run's process."""
    deadline = time.monotonic() + LONGEST_WAIT_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        if any((output / "logs").glob("*.log")):
            return
        time.sleep(0.05)
    raise AssertionError(f"no run was started: {process.stderr.read()}")


def test_a_sweep_of_which_half_ran_on_other_data_does_not_go_on(
    write_experiment, data_dir, compiled_once, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("STEPDISTILL_CACHE_DIR", str(tmp_path / "cache"))
    data = shutil.copytree(data_dir, tmp_path / "data", ignore=shutil.ignore_patterns("token_cache"))
    file = write_experiment(methods=["fine_tuning"], seeds=[0, 1])
    first, second = planned_runs(read_experiment(file))
    command = ["sweep", str(file), "--output", str(tmp_path / "sweep"), "--data_dir", str(data)]
    assert cli.main([*command, "--only", first.run_id]) == 0
    change(data, "train", label="1 + 1")
    assert cli.main(command) == 2
    assert "wordproblems/examples/train is not what" in capsys.readouterr().err.strip().splitlines()[-1]
    assert not run_files.run_folder(tmp_path / "sweep", second.run_id).exists()
