"""How many CPUs this process may really use: a container's quota, its cpuset and the affinity, whichever is least.

A thread pool as large as the machine, within a quota of two CPUs, is throttled by the kernel and many times slower.
"""

import math
import os
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")


def usable_cpus(*, cgroup: Path = CGROUP, membership: Path = MEMBERSHIP) -> int:
    """Whole CPUs, rounded down and at least 1.

    Args:
      cgroup: where control groups are mounted.
      membership: which of them this process is in.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.floor(min(allowed, _quota(cgroup, membership))))


def num_threads() -> int:
    """Threads to compute with: what OMP_NUM_THREADS says, as `limit_thread_pools` sets it, else the usable CPUs."""
    said = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    return int(said) if said.isdigit() and int(said) else usable_cpus()


def limit_thread_pools(threads: int) -> None:
    """Tells XLA, OpenMP and MKL, none of which is loaded yet, to have that many threads."""
    for name in ("NPROC", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(threads)


def _quota(cgroup: Path, membership: Path) -> float:
    """The smallest CPU quota of this process's control group and those above it, in CPUs; infinite without one."""
    quotas = [math.inf]
    for folder in control_groups("cpu", cgroup, membership):
        if (file := folder / "cpu.max").is_file():  # version 2: '200000 100000' or 'max 100000'
            quota, period = _numbers(file.read_text())
        elif (file := folder / "cpu.cfs_quota_us").is_file():  # version 1: -1 for none
            quota, period = _numbers(f"{file.read_text()} {(folder / 'cpu.cfs_period_us').read_text()}")
        else:
            continue
        if quota > 0 and period > 0:
            quotas.append(quota / period)
    return min(quotas)


def control_groups(controller: str, cgroup: Path = CGROUP, membership: Path = MEMBERSHIP) -> list[Path]:
    """The folders of this process's group and its ancestors, as they are seen from within a container or without.

    Args:
      controller: 'cpu' or 'memory', which version 1 mounts one by one.
    """
    paths = {"/"}
    if membership.is_file():
        for line in membership.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if not controllers or controller in controllers.split(","):
                paths |= {path, *map(str, Path(path).parents)}
    roots = [cgroup, cgroup / controller, *([cgroup / "cpu,cpuacct"] if controller == "cpu" else [])]
    return [root / path.lstrip("/") for root in roots for path in sorted(paths)]


def _numbers(text: str) -> tuple[float, float]:
    quota, period = text.split()
    return (math.inf if quota == "max" else float(quota)), float(period)
