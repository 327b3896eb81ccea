"""A run that is killed and started again ends with the same numbers, byte for byte, as one that was not."""

import contextlib
import json
import random
import resource
import shutil
import signal
from pathlib import Path

import pytest
from killed_runs import checkpoints, num_train_rows, start_and_kill


def test_a_killed_run_goes_on_to_the_same_metrics(finished_run, train, shrunk, data_dir, tmp_path):
    folder = tmp_path / "killed"
    at_step = random.randrange(5, 17)
    status = start_and_kill(folder, data_dir, shrunk, at_step=at_step)
    assert status == -signal.SIGKILL, folder.with_suffix(".log").read_text()[-2000:]
    assert at_step <= num_train_rows(folder) < 24
    began_with = max(checkpoints(folder))

    train(folder)

    message = f"killed after step {at_step}, with checkpoint {began_with}"
    assert (folder / "metrics.jsonl").read_bytes() == (finished_run / "metrics.jsonl").read_bytes(), message
    assert max(checkpoints(folder)) == 24
    for name in ("validation-12", "validation-24"):
        file = Path("predictions") / f"wordproblems_label-{name}.jsonl"
        assert (folder / file).read_bytes() == (finished_run / file).read_bytes(), message


@pytest.fixture
def half_run(finished_run, tmp_path):
    """A copy of the finished run as it stood at step 20, with a log that was cut inside step 22's line."""
    folder = shutil.copytree(finished_run, tmp_path / "half", ignore=shutil.ignore_patterns("checkpoint_24"))
    log = folder / "metrics.jsonl"
    text = log.read_text(encoding="utf-8")
    log.write_text(text[: text.index('{"step": 22,') + 30], encoding="utf-8")
    return folder


def test_a_log_that_was_cut_inside_a_line_is_mended(half_run, finished_run, train):
    train(half_run)
    assert (half_run / "metrics.jsonl").read_bytes() == (finished_run / "metrics.jsonl").read_bytes()


def test_another_seed_is_refused_in_one_line(half_run, train):
    with pytest.raises(ValueError, match=r"^random_seed=7, but .*checkpoint_20 was trained with 0; use .*$"):
        train(half_run, "RANDOM_SEED = 7")


@pytest.mark.slow
def test_data_too_large_to_index_are_gone_on_with_exactly(train, tmp_path):
    bindings = (
        "TRAIN_STEPS = 8",
        "train.train_eval_dataset_cfg = None",
        "train.infer_eval_dataset_cfg = None",
        "train/utils.DatasetConfig.max_indexed_examples = 10",
    )
    whole = tmp_path / "whole"
    train(whole, *bindings)
    goes_on = shutil.copytree(whole, tmp_path / "goes_on", ignore=shutil.ignore_patterns("checkpoint_8"))
    train(goes_on, *bindings)
    assert (goes_on / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()


def test_a_finished_run_started_again_changes_nothing(finished_run, train, tmp_path):
    folder = shutil.copytree(finished_run, tmp_path / "finished")
    train(folder)
    assert (folder / "metrics.jsonl").read_bytes() == (finished_run / "metrics.jsonl").read_bytes()


@contextlib.contextmanager
def full_disk():
    """Within it no file may grow past 64 KiB: what a full disk does to a save, without a disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64 * 1024, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_save_that_fails_behind_the_loop_stops_it_and_the_run_goes_on_later(finished_run, train, tmp_path):
    run = tmp_path / "run"
    with full_disk(), pytest.raises(OSError, match=r"File too large.*run/vocabulary/vocabulary.model"):
        train(run)
    shutil.copytree(finished_run / "vocabulary", run / "vocabulary", dirs_exist_ok=True)
    with full_disk(), pytest.raises(OSError, match=r"checkpoint_4 could not be saved: .*"):
        train(run)
    assert checkpoints(run) == set()
    train(run)
    assert (run / "metrics.jsonl").read_bytes() == (finished_run / "metrics.jsonl").read_bytes()


@pytest.mark.slow
def test_a_run_stopped_before_its_first_checkpoint_begins_anew(train, tmp_path):
    folder = tmp_path / "begun"
    bindings = (
        "TRAIN_STEPS = 1",
        "train.run_eval_before_training = True",
        "train.infer_eval_dataset_cfg = None",
    )
    train(folder, *bindings)
    first = (folder / "metrics.jsonl").read_bytes()
    shutil.rmtree(folder / "checkpoint_1")
    train(folder, *bindings)
    assert (folder / "metrics.jsonl").read_bytes() == first
    assert [json.loads(line)["step"] for line in first.splitlines()] == [0, 0, 1, 1, 1]


def test_other_data_settings_are_refused_when_a_run_goes_on(finished_run, train, tmp_path):
    folder = tmp_path / "goes_on"
    shutil.copytree(finished_run, folder)
    with pytest.raises(ValueError, match="mixture_or_task_name='wordproblems_label', but the run in"):
        train(folder, "MIXTURE_OR_TASK_NAME = 'wordproblems_label'")
    with pytest.raises(ValueError, match=r"batch_size=16, but the run in .* has 8"):
        train(folder, "BATCH_SIZE = 16")


def test_other_data_are_refused_when_a_run_goes_on(finished_run, train, tmp_path):
    folder = shutil.copytree(finished_run, tmp_path / "goes_on")
    facts = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    assert facts["data"]["wordproblems_label"]["examples"] == 48
    facts["data"]["wordproblems_label"]["examples"] = 47
    (folder / "run.json").write_text(json.dumps(facts), encoding="utf-8")
    with pytest.raises(
        ValueError, match=r"data=\{'wordproblems_label': \{'examples': 48,.*, but the run in .* has"
    ):
        train(folder)


def test_a_run_that_begins_with_a_checkpoint_takes_its_own_steps_on_top(finished_run, train, tmp_path):
    gin_file = tmp_path / "continue.gin"
    gin_file.write_text(
        "from __gin__ import dynamic_registration\n"
        "from t5x import utils\n"
        "include 'gin/dsbs_t5_tiny.gin'\n"
        "RESTORE = @utils.RestoreCheckpointConfig()\n"
        f"utils.RestoreCheckpointConfig.path = {str(finished_run / 'checkpoint_24')!r}\n"
        "utils.RestoreCheckpointConfig.mode = 'specific'\n"
    )
    folder = tmp_path / "begins_with_a_checkpoint"
    step, _ = train(folder, "TRAIN_STEPS = 4", gin_file=gin_file)
    assert step == 28
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if row["split"] == "train"] == [25, 26, 27, 28]
    with pytest.raises(ValueError, match=r"total_steps=20, but .*checkpoint_24 is at step 24"):
        train(
            tmp_path / "nothing_to_do",
            "train.total_steps = 20",
            "train.relative_steps = None",
            gin_file=gin_file,
        )
    assert not (tmp_path / "nothing_to_do").exists()
