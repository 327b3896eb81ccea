import os
import subprocess
import sys

import pytest

from stepdistill_jax.base.usable_cpus import limit_thread_pools, num_threads, usable_cpus

ALLOWED = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def write(root, files):
    for name, text in files.items():
        path = root / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.fixture
def cpus(tmp_path, monkeypatch):
    """cpus({file: text} below the mount, membership) -> usable CPUs of a machine of 64."""

    def count(files, membership="0::/\n"):
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)), raising=False)
        write(tmp_path, files)
        (tmp_path / "self").write_text(membership)
        return usable_cpus(cgroup=tmp_path / "cgroup", membership=tmp_path / "self")

    return count


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 64),
        ({"cpu.max": "max 100000\n"}, 64),
        ({"cpu.max": "200000 100000\n"}, 2),
        ({"cpu.max": "390000 100000\n"}, 3),
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 64),
    ],
)
def test_the_quota_is_rounded_down(cpus, files, expected):
    assert cpus(files) == expected


def test_the_smallest_quota_of_a_group_and_those_above_counts(cpus):
    files = {"a/cpu.max": "200000 100000", "a/b/cpu.max": "800000 100000", "other/cpu.max": "100000 100000"}
    assert cpus(files, "0::/a/b\n") == 2


def test_the_affinity_counts_too(cpus, monkeypatch, tmp_path):
    assert cpus({"cpu.max": "800000 100000"}) == 8
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1}, raising=False)
    assert usable_cpus(cgroup=tmp_path / "cgroup", membership=tmp_path / "self") == 2


def test_here_it_is_no_more_than_the_affinity():
    assert 1 <= usable_cpus() <= ALLOWED


def test_thread_pools_get_the_number(monkeypatch):
    monkeypatch.setattr(os, "environ", {"OMP_NUM_THREADS": "64"})
    limit_thread_pools(2)
    assert os.environ == {"NPROC": "2", "OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "2"}
    assert num_threads() == 2


@pytest.mark.parametrize(
    ("said", "expected"), [("3", 3), ("4,2", 4), ("", None), ("0", None), ("many", None)]
)
def test_what_the_environment_says_of_threads_counts_first(monkeypatch, said, expected):
    monkeypatch.setenv("OMP_NUM_THREADS", said)
    assert num_threads() == (expected or usable_cpus())


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="threads are counted in /proc")
@pytest.mark.parametrize("threads", [1, 3])
def test_jax_computes_with_as_many_threads(threads):
    program = (
        "import pathlib, stepdistill_jax.base.usable_cpus as cpus\n"
        f"cpus.limit_thread_pools({threads})\n"
        "import jax, jax.numpy as jnp\n"
        "jax.block_until_ready(jax.jit(lambda x: x @ x)(jnp.ones((256, 256))))\n"
        "names = [path.read_text().strip() for path in pathlib.Path('/proc/self/task').glob('*/comm')]\n"
        "print(names.count('tf_XLAEigen'))"
    )
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment
    )
    assert int(done.stdout) == threads
