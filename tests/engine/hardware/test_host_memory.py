"""What this process may use of its host's memory: the kernel's account, and the limit of a container."""

import os
import sys

import pytest

from stepdistill_jax.engine.hardware.host_memory import HostMemory, host_memory

MEMINFO = (
    "MemTotal:       64000 kB\nMemFree:         1000 kB\nMemAvailable:   32000 kB\nHugePages_Total:       0\n"
)
UNLIMITED = str(2**63 - 4096)


@pytest.fixture
def memory(tmp_path):
    """memory({file: text} below the mount, membership) -> what a host of 64,000 kB has, half of it free."""

    def read(files, membership="0::/\n"):
        (tmp_path / "meminfo").write_text(MEMINFO)
        (tmp_path / "self").write_text(membership)
        for name, text in files.items():
            path = tmp_path / "cgroup" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return host_memory(
            meminfo=tmp_path / "meminfo", cgroup=tmp_path / "cgroup", membership=tmp_path / "self"
        )

    return read


def of(free, total):
    return HostMemory(free_bytes=free * 1024, total_bytes=total * 1024)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, of(32000, 64000)),
        ({"memory.max": "max\n", "memory.current": "999\n"}, of(32000, 64000)),
        ({"memory.max": f"{8000 * 1024}\n", "memory.current": f"{3000 * 1024}\n"}, of(5000, 8000)),
        (
            {
                "memory.max": f"{8000 * 1024}",
                "memory.current": f"{7000 * 1024}",
                "memory.stat": f"anon 5\ninactive_file {6000 * 1024}\nactive_file 7\n",
            },
            of(7000, 8000),
        ),
        ({"memory.max": "1024", "memory.current": "4096"}, of(0, 1)),
        (
            {
                "memory/memory.limit_in_bytes": f"{8000 * 1024}",
                "memory/memory.usage_in_bytes": f"{3000 * 1024}",
                "memory/memory.stat": f"inactive_file 1\ntotal_inactive_file {1000 * 1024}\n",
            },
            of(6000, 8000),
        ),
        (
            {"memory/memory.limit_in_bytes": UNLIMITED, "memory/memory.usage_in_bytes": f"{3000 * 1024}"},
            of(32000, 64000),
        ),
    ],
    ids=["none", "max", "limit", "file cache", "too much in use", "version 1", "version 1 without a limit"],
)
def test_the_least_counts(memory, files, expected):
    assert memory(files) == expected


def test_groups_above_limit_a_process_too(memory):
    files = {
        "a/memory.max": f"{4000 * 1024}", "a/memory.current": f"{1000 * 1024}",
        "a/b/memory.max": f"{9000 * 1024}", "a/b/memory.current": "0",
        "other/memory.max": "1024", "other/memory.current": "0",
    }  # fmt: skip
    assert memory(files, "0::/a/b\n") == of(3000, 4000)
    assert memory(
        {"memory/c/memory.limit_in_bytes": "2048", "memory/c/memory.usage_in_bytes": "0"}, "4:memory:/c\n"
    ) == of(2, 2)


def test_without_the_kernels_account_all_is_free(memory, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sysconf", {"SC_PHYS_PAGES": 10, "SC_PAGE_SIZE": 4096}.__getitem__)
    nothing = tmp_path / "nothing"
    assert host_memory(meminfo=nothing, cgroup=nothing, membership=nothing) == HostMemory(40960, 40960)
    monkeypatch.setattr(os, "sysconf", {"SC_PHYS_PAGES": -1, "SC_PAGE_SIZE": 4096}.__getitem__)
    assert host_memory(meminfo=nothing, cgroup=nothing, membership=nothing) is None


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere the kernel says less")
def test_here_some_of_it_is_free():
    here = host_memory()
    assert 0 < here.free_bytes <= here.total_bytes
