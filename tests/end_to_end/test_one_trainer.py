"""A run's folder has one trainer at a time; the next goes on after a kill or Ctrl-C, and no line of a log comes twice."""

import os
import re
import signal
import time

import pytest

from stepdistill_jax.base import checkpoint_folders
from stepdistill_jax.base.folder_lock import FolderInUse, FolderLock
from stepdistill_jax.launching import runs as runs_of_folders

LONGEST_WAIT_SECONDS = 240


def num_rows(folder):
    log = folder / "metrics.jsonl"
    return log.read_bytes().count(b'"split": "train"') if log.exists() else 0


def wait_until(condition):
    deadline = time.monotonic() + LONGEST_WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


@pytest.mark.slow
def test_a_second_trainer_is_refused_and_the_next_goes_on_after_a_kill_and_after_an_interrupt(
    finished_run, start_server, shrunk, tmp_path
):
    runs, folder = start_server(*shrunk), tmp_path / "run"
    log = {name: tmp_path / f"{name}.log" for name in ("first", "second", "third", "fourth")}
    first = runs.start(folder, log["first"])
    wait_until((folder / "checkpoint_4").exists)
    os.kill(first, signal.SIGSTOP)  # it lives, however long the second one takes
    assert runs.wait(runs.start(folder, log["second"])) == 73
    assert re.fullmatch(
        rf"t5x/train\.py: error: MODEL_DIR {folder} is in use: process {first} on \S+ is at work on it since \S+\. Wait for "
        r"its end or stop it; or name another folder\.\n",
        log["second"].read_text(),
    )
    os.kill(first, signal.SIGKILL)
    assert runs.wait(first) == -signal.SIGKILL

    reached = checkpoint_folders.steps_in(folder)[-1]
    third = runs.start(folder, log["third"])
    wait_until(lambda: num_rows(folder) <= reached)  # those of later steps are dropped first
    wait_until(lambda: num_rows(folder) >= reached + 3)
    os.kill(third, signal.SIGINT)
    assert runs.wait(third) == 130, log["third"].read_text()
    step = checkpoint_folders.steps_in(folder)[-1]
    assert reached + 3 <= step < 24
    said = log["third"].read_text()
    assert "SIGINT: the run will save after the step in hand and end; once more ends it at once.\n" in said
    assert (
        f"interrupted at step {step}, saved in {folder}/checkpoint_{step}; the same command goes on" in said
    )
    assert "Traceback" not in said

    assert runs.wait(runs.start(folder, log["fourth"])) == 0, log["fourth"].read_text()
    assert (folder / "metrics.jsonl").read_bytes() == (finished_run / "metrics.jsonl").read_bytes()
    assert not (folder / "owner.json").exists()


def test_a_trainer_that_is_refused_changes_nothing_and_readers_need_no_lock(finished_run, train):
    files = {path: path.stat().st_mtime_ns for path in finished_run.rglob("*")}
    with FolderLock(finished_run / "owner.json", "it").held():
        with pytest.raises(FolderInUse, match=f"MODEL_DIR {finished_run} is in use"):
            train(finished_run)
        [answer] = runs_of_folders.predict(finished_run, ["Mia has 2 apples and buys 3 more."])
    assert isinstance(answer, str)
    assert {path: path.stat().st_mtime_ns for path in finished_run.rglob("*")} == files
