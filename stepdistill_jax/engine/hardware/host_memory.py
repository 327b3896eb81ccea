"""How much of its host's memory this process may use: what is free, within the limit of its container."""

import dataclasses
import os
import re
from pathlib import Path

from stepdistill_jax.base.usable_cpus import CGROUP, MEMBERSHIP, control_groups

_MEMINFO = Path("/proc/meminfo")
# Version 2 of control groups, and version 1: limit, use, and what of the use the kernel gives back when asked.
_FILES = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


@dataclasses.dataclass(frozen=True)
class HostMemory:
    """Of the host, or of this process's container where that has less.

    Attributes:
      free_bytes: that the process could take now, the kernel's file cache included.
      total_bytes: free or not.
    """

    free_bytes: int
    total_bytes: int


def host_memory(
    *, meminfo: Path = _MEMINFO, cgroup: Path = CGROUP, membership: Path = MEMBERSHIP
) -> HostMemory | None:
    """What there is now; None where the system does not say. Where it does not say what is free (macOS), all is.

    Args:
      meminfo: the kernel's account.
      cgroup: where control groups are mounted.
      membership: which of them this process is in.
    """
    if (memory := _of_machine(meminfo)) is None:
        return None
    free_bytes, total_bytes = memory.free_bytes, memory.total_bytes
    for folder in control_groups("memory", cgroup, membership):
        for limit_name, use_name, given_back in _FILES:
            limit, use = (_bytes_in(folder / name) for name in (limit_name, use_name))
            if limit is None or use is None:
                continue
            use -= _statistic(folder / "memory.stat", given_back)
            free_bytes = min(free_bytes, max(limit - use, 0))
            total_bytes = min(total_bytes, limit)
    return HostMemory(free_bytes, total_bytes)


def _of_machine(meminfo: Path) -> HostMemory | None:
    if meminfo.is_file():
        kilobytes = {
            name: int(number)
            for name, number in re.findall(r"^(\w+):\s+(\d+) kB$", meminfo.read_text(), re.MULTILINE)
        }
        return HostMemory(kilobytes["MemAvailable"] * 1024, kilobytes["MemTotal"] * 1024)
    try:
        total_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        return None
    return HostMemory(total_bytes, total_bytes) if total_bytes > 0 else None


def _bytes_in(path: Path) -> int | None:
    """The number of a file; None without one, or where it says 'max'."""
    text = path.read_text().strip() if path.is_file() else ""
    return int(text) if text.isdigit() else None


def _statistic(path: Path, name: str) -> int:
    match = re.search(rf"^{name} (\d+)$", path.read_text(), re.MULTILINE) if path.is_file() else None
    return int(match[1]) if match else 0
