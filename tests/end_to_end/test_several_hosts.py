"""One run over different devices and processes: the same losses, the same examples, and each can go on with the other's."""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
LONGEST_RUN_SECONDS = 240
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
def run(data_dir, shrunk, compiled_once):
    """run(folder, num_processes, devices_each, *bindings): trains, and returns the processes' output."""

    def start(folder, num_processes, devices_each, *bindings):
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
        processes = [
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
        try:
            outputs = [process.communicate(timeout=LONGEST_RUN_SECONDS)[0] for process in processes]
        finally:
            for process in processes:
                process.kill()
        assert [process.returncode for process in processes] == [0] * num_processes, outputs
        return outputs

    return start


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
    (predictions,) = (reference / "predictions").iterdir()
    assert (folder / "predictions" / predictions.name).read_text() == predictions.read_text()


@pytest.mark.slow
def test_devices_and_processes_do_not_change_a_run(run, tmp_path):
    one = tmp_path / "one_device"
    run(one, 1, 1)
    runs = {
        "eight_as_data": (1, 8, ()),
        "fsdp_and_tensor": (1, 8, FSDP_AND_TENSOR),
        "two_processes": (2, 4, ()),
        "two_processes_fsdp_and_tensor": (2, 4, FSDP_AND_TENSOR),
    }
    for name, (num_processes, devices_each, bindings) in runs.items():
        run(tmp_path / name, num_processes, devices_each, *bindings)
        assert_same_run(tmp_path / name, one)

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
