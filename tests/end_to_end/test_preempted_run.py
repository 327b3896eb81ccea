"""A run that its cluster takes the machine from, and that goes on later."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stepdistill_jax.engine import train as train_module
from stepdistill_jax.engine.cluster import preemption

ROOT = Path(__file__).resolve().parents[2]
LONGEST_WAIT_SECONDS = 240


@pytest.mark.parametrize("notice", [signal.SIGTERM, pytest.param(signal.SIGUSR1, marks=pytest.mark.slow)])
def test_a_preempted_run_saves_its_step_and_goes_on_to_the_same_metrics(
    finished_run, train, shrunk, data_dir, tmp_path, notice
):
    folder = tmp_path / "preempted"
    bindings = (f"MODEL_DIR = {str(folder)!r}", *shrunk, "CHECKPOINT_PERIOD = 1000")
    flags = [f"--gin_bindings={binding}" for binding in bindings]
    command = [sys.executable, str(ROOT / "t5x" / "train.py"), "--gin_file=gin/dsbs_t5_tiny.gin", *flags]
    log, metrics = tmp_path / "log", folder / "metrics.jsonl"
    with (
        log.open("w") as output,
        subprocess.Popen([*command, f"--tfds_data_dir={data_dir}"], stdout=output, stderr=output) as process,
    ):
        deadline = time.monotonic() + LONGEST_WAIT_SECONDS
        while process.poll() is None and time.monotonic() < deadline:
            if metrics.exists() and metrics.read_bytes().count(b"\n") >= 5:
                break
            time.sleep(0.002)
        process.send_signal(notice)
        status = process.wait(LONGEST_WAIT_SECONDS)
    assert status == 75, log.read_text()[-2000:]
    steps = [int(path.name.removeprefix("checkpoint_")) for path in folder.glob("checkpoint_*")]
    assert len(steps) == 1
    assert 5 <= steps[0] < 24
    assert f"preempted at step {steps[0]}, saved in {folder}/checkpoint_{steps[0]}" in log.read_text()

    train(folder)
    assert metrics.read_bytes() == (finished_run / "metrics.jsonl").read_bytes()


def test_a_notice_while_a_run_is_set_up_asks_for_another_try(train, tmp_path, monkeypatch, capsys):
    open_stream = train_module._open_stream

    def open_late(*arguments):
        os.kill(os.getpid(), signal.SIGTERM)
        return open_stream(*arguments)

    monkeypatch.setattr(train_module, "_open_stream", open_late)
    with pytest.raises(preemption.Preempted) as ended:
        train(tmp_path / "run")
    assert ended.value.code == 75
    assert "preempted at step 0; nothing was saved" in capsys.readouterr().err
    assert list((tmp_path / "run").glob("checkpoint_*")) == []
