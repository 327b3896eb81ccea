"""Which kernels a device ran, and for how long, from what JAX's profiler wrote."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

NUM_KERNELS = 20
_NAME_LENGTH = 90


def table(folder: str, num_steps: int) -> dict[str, Any]:
    """The kernels that took longest, and what all took, per step.

    Args:
      folder: of `jax.profiler.trace`.
      num_steps: that were traced.

    Returns:
      'where' they ran, 'total_ms', and 'kernels': {'ms', 'calls', 'name'} of each.

    Raises:
      ValueError: if there are none; it says what there is.
    """
    from jax.profiler import ProfileData

    files = sorted(Path(folder).rglob("*.xplane.pb"))
    if not files:
        raise ValueError(f"{folder}: the profiler wrote no *.xplane.pb.")
    return summary(list(ProfileData.from_file(str(files[-1])).planes), num_steps, folder)


def summary(planes: Iterable[Any], num_steps: int, folder: str) -> dict[str, Any]:
    """`table` of the planes of a profile."""
    where, lines = _device_lines(planes)
    totals: dict[str, list[float]] = {}
    for line in lines:
        for name, nanoseconds in _own_times(line):
            of_name = totals.setdefault(name[:_NAME_LENGTH], [0.0, 0])
            of_name[0] += nanoseconds
            of_name[1] += 1
    if not totals:
        there = "; ".join(f"{plane.name}: {', '.join(line.name for line in plane.lines)}" for plane in planes)
        raise ValueError(f"{folder}: no kernels among what was traced ({there or 'nothing'}).")
    longest = sorted(totals.items(), key=lambda item: -item[1][0])[:NUM_KERNELS]
    return {
        "where": where,
        "total_ms": sum(nanoseconds for nanoseconds, _ in totals.values()) / num_steps / 1e6,
        "kernels": [
            {"ms": nanoseconds / num_steps / 1e6, "calls": calls / num_steps, "name": name}
            for name, (nanoseconds, calls) in longest
        ],
    }


def _device_lines(planes: Iterable[Any]) -> tuple[str, list[list[Any]]]:
    """(where, a list of events a line): streams of GPUs, else operations of TPUs, else those that the CPU's threads ran."""
    on_devices = [
        (plane, line) for plane in planes if plane.name.startswith("/device:") for line in plane.lines
    ]
    for word in ("Stream", "XLA Ops"):
        if found := [(plane, line) for plane, line in on_devices if word in line.name]:
            names = sorted({plane.name for plane, _ in found})
            return f"{', '.join(names)}, {word}", [list(line.events) for _, line in found]
    threads = [line for plane in planes if plane.name == "/host:CPU" for line in plane.lines]
    return "the CPU's threads together", [
        [event for event in line.events if any(name == "hlo_op" for name, _ in event.stats)]
        for line in threads
    ]


def _own_times(events: list[Any]) -> Iterator[tuple[str, float]]:
    """(name, nanoseconds) of each event without those within it: a loop contains what it runs."""
    open_events: list[list[Any]] = []  # [end, name, own time], the outermost first
    for event in sorted(events, key=lambda event: (event.start_ns, -event.duration_ns)):
        while open_events and open_events[-1][0] <= event.start_ns:
            yield tuple(open_events.pop()[1:])
        if open_events:
            open_events[-1][2] -= event.duration_ns
        open_events.append([event.start_ns + event.duration_ns, event.name, event.duration_ns])
    while open_events:
        yield tuple(open_events.pop()[1:])
