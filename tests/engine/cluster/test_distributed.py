"""Several processes as one run: what flags and environments say, and real processes on this machine."""

import argparse
import json
import os
import socket
import subprocess
import sys
import textwrap

import pytest

from stepdistill_jax.engine.cluster import distributed


def flags(*argv):
    parser = argparse.ArgumentParser(exit_on_error=False)
    distributed.add_flags(parser)
    return parser.parse_args(argv)


def find(argv=(), **environ):
    return distributed.find_processes(flags(*argv), environ)


SLURM_STEP = {
    "SLURM_JOB_ID": "17",
    "SLURM_STEP_NODELIST": "node[01-02]",
    "SLURM_NTASKS": "16",
    "SLURM_STEP_NUM_NODES": "2",
    "SLURM_PROCID": "3",
    "SLURM_LOCALID": "3",
}


def test_a_machine_by_itself_is_one_process():
    assert find() is None
    assert find(["--multiprocess_gpu=false"]) is None


def test_t5x_flags_name_the_processes():
    found = find(
        [
            "--multiprocess_gpu",
            "--coordinator_address=10.0.0.1:1234",
            "--process_count=4",
            "--process_index=2",
        ]
    )
    assert (found.coordinator_address, found.process_count, found.process_index) == ("10.0.0.1:1234", 4, 2)
    assert found.use_all_devices


@pytest.mark.parametrize(
    "environ",
    [
        {"JAX_COORDINATOR_ADDRESS": "host-0:1234", "JAX_PROCESS_COUNT": "2", "JAX_PROCESS_INDEX": "1"},
        {
            "JAX_COORDINATOR_ADDRESS": "host-0",
            "JAX_COORDINATOR_PORT": "1234",
            "NNODES": "2",
            "NODE_RANK": "1",
        },
        {"JAX_COORDINATOR_IP": "host-0", "JAX_COORDINATOR_PORT": "1234", "NNODES": "2", "NODE_RANK": "1"},
        {"JAX_COORDINATOR_ADDRESS": "host-0:1234", "JAX_NUM_PROCESSES": "2", "JOB_COMPLETION_INDEX": "1"},
    ],
    ids=["jax", "xpk", "maxtext", "jobset"],
)
def test_launchers_name_the_processes_in_the_environment(environ):
    found = find(**environ)
    assert (found.coordinator_address, found.process_count, found.process_index) == ("host-0:1234", 2, 1)


def test_flags_win_over_the_environment():
    argv = ["--coordinator_address=a:1", "--process_count=2", "--process_index=0"]
    assert find(argv, JAX_COORDINATOR_ADDRESS="b:2", NNODES="8", NODE_RANK="7").coordinator_address == "a:1"
    assert find(["--process_count=1"], **SLURM_STEP) is None


def test_a_slurm_task_for_each_gpu_takes_one_and_a_task_for_each_node_takes_all():
    of_a_gpu = find(**SLURM_STEP)
    assert of_a_gpu.source == "SLURM"
    assert of_a_gpu.coordinator_address is None  # JAX reads it
    assert not of_a_gpu.use_all_devices
    assert find(**{**SLURM_STEP, "SLURM_NTASKS": "2"}).use_all_devices
    # SLURM has shut this task off from the other GPUs: the one that it sees is number 0 to JAX, whatever its place.
    assert find(**SLURM_STEP, CUDA_VISIBLE_DEVICES="3").use_all_devices
    assert find(**{**SLURM_STEP, "SLURM_NTASKS": "1"}) is None


def test_open_mpi_processes_are_found():
    assert find(OMPI_COMM_WORLD_SIZE="2", OMPI_COMM_WORLD_LOCAL_SIZE="1").use_all_devices
    assert not find(OMPI_COMM_WORLD_SIZE="16", OMPI_COMM_WORLD_LOCAL_SIZE="8").use_all_devices


def test_the_hosts_of_a_tpu_slice_are_found(monkeypatch):
    monkeypatch.setattr(distributed.importlib.util, "find_spec", lambda name: name == "libtpu")
    assert "TPU" in find(TPU_WORKER_HOSTNAMES="a,b,c,d", TPU_WORKER_ID="2").source
    assert find(TPU_WORKER_HOSTNAMES="localhost") is None
    assert find(TPU_WORKER_HOSTNAMES="a,b", JAX_PLATFORMS="cpu") is None


@pytest.mark.parametrize(
    ("argv", "environ", "message"),
    [
        (["--multiprocess_gpu"], {}, "nothing says which processes there are; give --coordinator_address"),
        (["--coordinator_address=a:1"], {}, "process_count=None, process_index=None by the flags: several"),
        (
            ["--coordinator_address=a", "--process_count=2", "--process_index=0"],
            {},
            "'a' by the flags is not HOST",
        ),
        (
            ["--coordinator_address=a:1", "--process_count=2", "--process_index=2"],
            {},
            "from 0 to process_count - 1",
        ),
        ([], {"JAX_COORDINATOR_ADDRESS": "a:1", "NNODES": "two"}, "NNODES='two' in the environment"),
        ([], {"JAX_COORDINATOR_ADDRESS": "a:1", "NNODES": "2"}, "process_index=None by the environment"),
        ([], {"SLURM_JOB_ID": "1", "SLURM_NTASKS": "2"}, "start the command with srun"),
        (
            [],
            {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "JOB_COMPLETION_INDEX": "3"},
            "Pod 3 of a Kubernetes job",
        ),
    ],
)
def test_too_little_or_wrong_is_one_line_that_says_the_mend(argv, environ, message):
    with pytest.raises(ValueError, match=message) as error:
        find(argv, **environ)
    assert "\n" not in str(error.value)


JOIN = textwrap.dedent(
    """
    import argparse, json, pathlib, sys
    from stepdistill_jax.engine.cluster import distributed

    parser = argparse.ArgumentParser()
    parser.add_argument("result")
    distributed.add_flags(parser)
    args = parser.parse_args()
    try:
        with distributed.joined(args):
            import jax
            from jax.experimental import multihost_utils

            indices = multihost_utils.process_allgather(jax.numpy.asarray(jax.process_index()))
            joined = {"processes": jax.process_count(), "devices": jax.device_count(), "indices": indices.tolist()}
            pathlib.Path(args.result).write_text(json.dumps(joined))
    except (ValueError, OSError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
    """
)


@pytest.fixture
def start(tmp_path):
    """start(index, count, timeout) -> a process of two devices, of a run whose process 0 listens on one free port.

    Once joined, it writes what it sees to INDEX.json: its output is also the library's of CPU collectives, in between.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    started = []

    def start_one(index, count, timeout=60):
        environ = {
            **os.environ,
            "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
            "JAX_PLATFORMS": "cpu",
        }
        command = [
            *(sys.executable, "-c", JOIN, str(tmp_path / f"{index}.json")),
            f"--coordinator_address=127.0.0.1:{port}",
            *(f"--process_count={count}", f"--process_index={index}", f"--initialization_timeout={timeout}"),
        ]
        started.append(
            subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        )
        return started[-1]

    yield start_one
    for process in started:
        process.kill()
        process.communicate()


def test_two_processes_become_one_run(start, tmp_path):
    processes = [start(0, 2), start(1, 2)]
    outputs = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    for index in (0, 1):
        assert json.loads((tmp_path / f"{index}.json").read_text()) == {
            "processes": 2,
            "devices": 4,
            "indices": [0, 1],
        }
    assert "2 processes, 4 devices, from the flags" in outputs[0][1]


def test_processes_that_disagree_on_their_number_all_say_so(start):
    processes = [start(0, 2), start(1, 3)]
    errors = [process.communicate(timeout=120)[1].strip() for process in processes]
    assert errors[0].startswith("ValueError: process_count=2 in process 0, but 3 in process 1")
    assert errors[0] == errors[1]


def test_a_coordinator_that_is_not_there_is_one_line(start):
    process = start(1, 2, timeout=1)
    error = process.communicate(timeout=120)[1].strip()
    assert error.startswith("TimeoutError: Process 1 of 2 did not reach process 0 at 127.0.0.1:")
    assert "Connection refused" in error
    assert "\n" not in error


def test_processes_that_do_not_come_are_named(start):
    process = start(0, 3, timeout=1)
    error = process.communicate(timeout=120)[1].strip()
    assert error.startswith("TimeoutError: Of 3 processes, these did not come within 1 s: 1, 2;")
