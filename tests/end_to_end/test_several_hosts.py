"""One run over different devices and processes: the same losses, the same examples, and each can go on with the other's."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from stepdistill_jax.engine.checkpoint import checksums

ROOT = Path(__file__).resolve().parents[2]
LONGEST_RUN_SECONDS = 900  # on a machine with much else to do; it only ends a run that hangs
SHORT_RUN = (
    "TRAIN_STEPS = 6",
    "CHECKPOINT_PERIOD = 3",
    "EVAL_PERIOD = 6",
    "DROPOUT_RATE = 0.0",
    "train.log_examples = True",
)
FSDP_AND_TENSOR = (
    "NUM_PARTITIONS = 2",
    "partitioning.standard_logical_axis_rules.parameter_partitioning_dims = 2",
)


def free_port():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


@pytest.fixture(scope="module")
def start(data_dir, shrunk, compiled_once):
    """start(folder, num_processes, devices_each, *bindings): begins to train, and returns the processes."""

    def begin(folder, num_processes, devices_each, *bindings):
        every = (f"MODEL_DIR = {str(folder)!r}", *shrunk, *SHORT_RUN, *bindings)
        command = [sys.executable, str(ROOT / "t5x" / "train.py"), "--gin_file=gin/dsbs_t5_tiny.gin"]
        command += [f"--tfds_data_dir={data_dir}", *(f"--gin_bindings={binding}" for binding in every)]
        environment = {
            **os.environ,
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices_each}",
        }
        together = (
            [f"--coordinator_address=127.0.0.1:{free_port()}", f"--process_count={num_processes}"]
            if num_processes > 1
            else []
        )
        return [
            subprocess.Popen(
                [*command, *together, *([f"--process_index={index}"] if together else [])],
                env=environment,
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for index in range(num_processes)
        ]

    return begin


def ended(processes, status=0):
    """Waits for processes that are to end with this status, and returns their output."""
    try:
        outputs = [process.communicate(timeout=LONGEST_RUN_SECONDS)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [status] * len(processes), outputs
    return outputs


@pytest.fixture(scope="module")
def run(start):
    """run(as start): trains to the end, and returns the processes' output."""
    return lambda *arguments: ended(start(*arguments))


def rows_of(folder, file):
    return [json.loads(line) for line in (folder / file).read_text(encoding="utf-8").splitlines()]


def assert_same_run(folder, reference):
    """Everything the same, numbers within 1e-5 of each other."""
    assert rows_of(folder, "examples.jsonl") == rows_of(reference, "examples.jsonl")
    rows, expected = rows_of(folder, "metrics.jsonl"), rows_of(reference, "metrics.jsonl")
    assert [list(row) for row in rows] == [list(row) for row in expected]
    for row, of_reference in zip(rows, expected, strict=True):
        for name, value in of_reference.items():
            if isinstance(value, float):
                np.testing.assert_allclose(row[name], value, rtol=1e-5, atol=1e-6, err_msg=f"{row} {name}")
            else:
                assert row[name] == value, f"{row} {name}"
    said = {path.name: path.read_text() for path in (folder / "predictions").iterdir()}
    assert said == {path.name: path.read_text() for path in (reference / "predictions").iterdir()}
    assert any(name.startswith("wordproblems_label-validation-") for name in said)


@pytest.mark.slow
def test_devices_and_processes_do_not_change_a_run(run, tmp_path):
    one = tmp_path / "one_device"
    run(one, 1, 1)
    runs = {
        "eight_as_data": (1, 8, ()),
        "fsdp_and_tensor": (1, 8, FSDP_AND_TENSOR),
        "two_processes": (2, 4, ("NUM_MICROBATCHES = 'auto'",)),
        "two_processes_fsdp_and_tensor": (2, 4, FSDP_AND_TENSOR),
    }
    for name, (num_processes, devices_each, bindings) in runs.items():
        run(tmp_path / name, num_processes, devices_each, *bindings)
        assert_same_run(tmp_path / name, one)

    found = json.loads((tmp_path / "two_processes" / "fitted_step.json").read_text(encoding="utf-8"))
    assert found["plan"]["num_microbatches"] == 1

    # A checkpoint of one process is gone on with by two, and the other way round.
    for name, source, num_processes, devices_each in (
        ("one_then_two", "eight_as_data", 2, 4),
        ("two_then_one", "two_processes", 1, 8),
    ):
        folder = shutil.copytree(
            tmp_path / source, tmp_path / name, ignore=shutil.ignore_patterns("checkpoint_6")
        )
        outputs = run(folder, num_processes, devices_each)
        assert "going on from" in outputs[0]
        assert_same_run(folder, one)


def wait_until(condition, processes):
    deadline = time.monotonic() + LONGEST_RUN_SECONDS
    while time.monotonic() < deadline and all(process.poll() is None for process in processes):
        if condition():
            return
        time.sleep(0.001)
    raise AssertionError([process.communicate()[0][-2000:] for process in processes])


def num_rows(folder):
    log = folder / "metrics.jsonl"
    return log.read_bytes().count(b'"split": "train"') if log.exists() else 0


@pytest.mark.slow
def test_two_processes_are_one_owner_and_each_sums_up_what_it_wrote(start, tmp_path):
    folder = tmp_path / "run"
    first = start(folder, 2, 4, *FSDP_AND_TENSOR)
    wait_until((folder / "owner.json").exists, first)
    refused = ended(start(folder, 2, 4, *FSDP_AND_TENSOR), status=73)
    for output in refused:
        assert f"MODEL_DIR {folder} is in use: process {first[0].pid} on " in output
        assert "Traceback" not in output
    ended(first)
    assert not (folder / "owner.json").exists()

    saved = checksums.read(folder / "checkpoint_3")
    assert any(name.startswith("state/ocdbt.process_1/d/") for name in saved)
    assert not list(folder.rglob("checksums.process_*"))
    checksums.check(folder / "checkpoint_3")

    shutil.rmtree(folder / "checkpoint_6")
    largest = max(saved, key=lambda name: saved[name].num_bytes)
    content = bytearray((folder / "checkpoint_3" / largest).read_bytes())
    content[-1] ^= 1
    (folder / "checkpoint_3" / largest).write_bytes(content)
    for output in ended(
        start(folder, 2, 4, *FSDP_AND_TENSOR), status=2
    ):  # though one process alone has read it
        assert f"checkpoint_3 is damaged: 1 file is not as saved: {largest} (CRC-32" in output
    content[-1] ^= 1
    (folder / "checkpoint_3" / largest).write_bytes(content)
    outputs = ended(start(folder, 2, 4, *FSDP_AND_TENSOR))
    assert re.search(r"checkpoint_3: restored in .* took [\d.]+ s by the first of 2 hosts", outputs[0])
    assert steps_of(folder) == [3, 6]


def is_saving(folder):
    return any(re.match(r"\.?checkpoint_\d+[^\d].*", path.name) for path in folder.iterdir())


def steps_of(folder):
    return sorted(int(path.name.removeprefix("checkpoint_")) for path in folder.glob("checkpoint_*"))


# (the processes that get the notice, the moment it comes at)
NOTICES = {
    "to one, in the first compilation": ([1], "compilation"),
    "to the first": ([0], "steps"),
    "to both, in a save": ([0, 1], "save"),
    "to the last": ([1], "steps"),
}


@pytest.mark.slow
def test_a_notice_to_any_process_ends_all_after_the_same_step(start, run, tmp_path):
    long_run = (
        "TRAIN_STEPS = 150",
        "EVAL_PERIOD = 150",
        "CHECKPOINT_PERIOD = 40",
        "utils.SaveCheckpointConfig.keep = None",
    )
    whole, preempted = tmp_path / "whole", tmp_path / "preempted"
    run(whole, 2, 2, *long_run)
    for name, (noticed, moment) in NOTICES.items():
        before = steps_of(preempted)[-1:] if preempted.exists() else [0]
        processes = start(preempted, 2, 2, *long_run)
        if moment == "compilation":  # run.json is written just before
            wait_until((preempted / "run.json").exists, processes)
        elif moment == "save":
            wait_until(lambda: is_saving(preempted), processes)
        else:
            begins, wanted = before[0], before[0] + 5
            wait_until(lambda: num_rows(preempted) <= begins, processes)  # noqa: B023
            wait_until(lambda: num_rows(preempted) >= wanted, processes)  # noqa: B023
        for index in noticed:
            processes[index].send_signal(signal.SIGTERM)
        outputs = ended(processes, status=75)
        step = steps_of(preempted)[-1]
        assert before[0] < step < 150, name
        for output in outputs:
            assert f"preempted at step {step}, saved in {preempted}/checkpoint_{step}" in output, (
                name,
                output,
            )
        assert not is_saving(preempted), name
    run(preempted, 2, 2, *long_run)
    for log in ("metrics.jsonl", "examples.jsonl"):
        assert (preempted / log).read_bytes() == (whole / log).read_bytes(), log
