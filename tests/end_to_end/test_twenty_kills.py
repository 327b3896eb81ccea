"""A run that is killed twenty times, in its saves too, ends as one that was not: the same losses and examples, bit for bit."""

import json
import os
import random
import re
import signal
import time

import pytest
from killed_runs import checkpoints, num_train_rows

NUM_KILLS = 20
SEED = 20
LONGEST_WAIT_SECONDS = 60
LAST_STEP = 66
LONG_RUN = (
    f"TRAIN_STEPS = {LAST_STEP}",
    "CHECKPOINT_PERIOD = 3",
    "EVAL_PERIOD = 33",
    "train.infer_eval_dataset_cfg = None",
    "train.log_examples = True",
)


@pytest.fixture
def runs(start_server, shrunk):
    return start_server(*shrunk, *LONG_RUN)


def names(folder):
    return [path.name for path in folder.iterdir()] if folder.is_dir() else []


def unfinished(folder):
    return {name for name in names(folder) if re.match(r"\.?checkpoint_\d+[^\d].*", name)}


def wait_until(condition):
    deadline = time.monotonic() + LONGEST_WAIT_SECONDS
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.0005)
    return False


def kill_in_a_save(runs, folder, delay):
    """In the first save that this start begins."""
    before = unfinished(folder)
    process = runs.start(folder)
    wait_until(lambda: unfinished(folder) - before)
    time.sleep(delay)
    return end(runs, process, folder)


def kill_after_steps(runs, folder, num_steps, delay):
    """Some steps after the checkpoint that it goes on from."""
    reached = max(checkpoints(folder), default=0)
    process = runs.start(folder)
    # The rows of steps after that checkpoint are dropped first.
    wait_until(lambda: num_train_rows(folder) <= reached)
    wait_until(lambda: num_train_rows(folder) >= reached + num_steps)
    time.sleep(delay)
    return end(runs, process, folder)


def kill_while_it_starts(runs, folder, delay):
    process = runs.start(folder)
    time.sleep(delay)
    return end(runs, process, folder)


def end(runs, process, folder):
    """Kills, and says whether that left a checkpoint half written."""
    os.kill(process, signal.SIGKILL)
    status = runs.wait(process)
    assert status == -signal.SIGKILL, folder.with_suffix(".log").read_text()[-2000:]
    return bool(unfinished(folder))


@pytest.mark.slow
def test_twenty_kills_change_nothing(runs, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert runs.wait(runs.start(whole)) == 0, whole.with_suffix(".log").read_text()[-2000:]
    moments = random.Random(SEED)
    torn = gone_on = 0
    for kill in range(NUM_KILLS):
        gone_on += bool(checkpoints(killed))
        if kill % 2:
            torn += kill_in_a_save(runs, killed, moments.uniform(0, 0.03))
        elif kill % 8 == 6:
            kill_while_it_starts(runs, killed, moments.uniform(0, 3))
        else:
            kill_after_steps(runs, killed, moments.randrange(1, 6), moments.uniform(0, 0.03))
    print(f"{torn} of {NUM_KILLS} kills left a torn checkpoint; {gone_on} starts went on from a whole one")
    assert max(checkpoints(killed)) < LAST_STEP
    assert torn >= 3
    assert gone_on >= NUM_KILLS // 2
    assert runs.wait(runs.start(killed)) == 0, killed.with_suffix(".log").read_text()[-2000:]
    for log in ("metrics.jsonl", "examples.jsonl"):
        assert (killed / log).read_bytes() == (whole / log).read_bytes(), log
    rows = [json.loads(line) for line in (killed / "examples.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(1, LAST_STEP + 1))
    assert all(row["examples"] for row in rows)
