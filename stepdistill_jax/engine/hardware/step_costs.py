"""What a step costs: floating-point operations of a traced function, and bytes that a compiled one sends between devices.

XLA's own `cost_analysis` counts the body of a loop once, however often it runs, and a GPU's gives nothing at all. Here a body
counts as often as it runs.
"""

import dataclasses
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np


def matmul_flops(jaxpr: Any) -> int:
    """Operations in the matrix products of a jaxpr, two a multiply-add, over all devices together.

    Products are all but a few per cent of a transformer's operations. A scan's body counts once a turn, the dearer branch of a
    conditional once. A Pallas kernel's do not count: how many there are depends on the data.
    """
    jaxpr = getattr(jaxpr, "jaxpr", jaxpr)
    total = 0
    for equation in jaxpr.eqns:
        name = equation.primitive.name
        if name == "dot_general":
            total += _dot_general_flops(equation)
        elif name == "pallas_call":
            continue
        elif name == "cond":
            total += max(matmul_flops(branch) for branch in equation.params["branches"])
        else:
            turns = equation.params["length"] if name == "scan" else 1
            total += turns * sum(matmul_flops(inner) for inner in _jaxprs_in(equation.params.values()))
    return total


def _dot_general_flops(equation: Any) -> int:
    (contracted, _), _ = equation.params["dimension_numbers"]
    terms = math.prod(equation.invars[0].aval.shape[axis] for axis in contracted)
    return 2 * terms * math.prod(equation.outvars[0].aval.shape)


def _jaxprs_in(values: Any) -> Iterator[Any]:
    for value in values:
        if hasattr(value, "eqns") or hasattr(value, "jaxpr"):
            yield value
        elif isinstance(value, tuple | list):
            yield from _jaxprs_in(value)


@dataclasses.dataclass(frozen=True)
class Traffic:
    """Bytes that each device sends in a step.

    Attributes:
      within_bytes: between devices of one host, or of one TPU slice.
      across_bytes: in exchanges that span hosts whose devices share no fast link.
      by_kind: both together, 'all-gather' and the like.
    """

    within_bytes: float
    across_bytes: float
    by_kind: Mapping[str, float]


_COLLECTIVE = re.compile(
    r"= (?P<type>.*?) (?P<kind>all-reduce|all-gather|reduce-scatter|all-to-all|ragged-all-to-all|"
    r"collective-permute|collective-broadcast)(?P<start>-start)?\("
)
_COMPUTATION = re.compile(r"^(?P<entry>ENTRY )?%?(?P<name>[\w.\-]+) \(.*\{$")
_CALLED = re.compile(
    r"(?P<how>body|condition|calls|to_apply|called_computations|branch_computations)="
    r"(?:\{(?P<names>[^}]*)\}|(?P<name>%?[\w.\-]+))"
)
_TRIPS = re.compile(r'known_trip_count[^0-9]*"?n"?[^0-9]*(\d+)')
_INTEGER = re.compile(r"= [su]32\[\][^ ]* constant\((\d+)\)")
_SHAPE = re.compile(r"(pred|[su]\d+|bf16|f\d+\w*)\[([\d,]*)\]")
_GROUPS = re.compile(r"replica_groups=\[(?P<shape>[\d,]+)\]<=\[(?P<dims>[\d,]+)\](?:T\((?P<order>[\d,]+)\))?")
_MESH_GROUPS = re.compile(r"replica_groups=mesh\[(?P<mesh>[^\]]*)\]\s*\{(?P<axes>[^}]*)\}")
_LISTED_GROUPS = re.compile(r"replica_groups=\{(?P<groups>\{[\d,{} ]*\})\}")
_PAIRS = re.compile(r"source_target_pairs=\{(?P<groups>\{[\d,{} ]*\})\}")


def traffic(hlo_text: str, *, num_devices: int, devices_per_host: int) -> Traffic:
    """What each device sends, from a compiled program's text, with rings as the way of exchange.

    Args:
      hlo_text: `compiled.as_text()`.
      num_devices: that the program runs on.
      devices_per_host: that share fast links; num_devices if all do.
    """
    computations, entry = _computations(hlo_text)
    within = across = 0.0
    by_kind: dict[str, float] = {}
    for name, runs in _runs(computations, entry).items():
        for line in computations[name]:
            if (match := _COLLECTIVE.search(line)) is None:
                continue
            groups = _groups(line, num_devices)
            result_bytes = _result_bytes(match["type"], match["kind"], bool(match["start"]), len(groups[0]))
            num_bytes = runs * _sent_bytes(match["kind"], result_bytes, len(groups[0]))
            by_kind[match["kind"]] = by_kind.get(match["kind"], 0.0) + num_bytes
            if any(len({device // devices_per_host for device in group}) > 1 for group in groups):
                across += num_bytes
            else:
                within += num_bytes
    return Traffic(within_bytes=within, across_bytes=across, by_kind=by_kind)


# A kernel of Pallas has its name in the operation's: "jit(step)/…/transpose(jvp(segment_attention))/pallas_call".
_PALLAS = re.compile(r'op_name="[^"]*?(?P<name>\w+)\)*/pallas_call')
_CUDNN = re.compile(r'custom_call_target="__cudnn\$(?P<name>fmha\w+)"')


def fused_kernels(hlo_text: str) -> dict[str, int]:
    """Kernel -> how often it runs in a step: those of Pallas by their names, cuDNN's attention as 'cudnn fmha…'.

    Args:
      hlo_text: `compiled.as_text()` of a program for GPUs or TPUs.
    """
    computations, entry = _computations(hlo_text)
    kernels: dict[str, int] = {}
    for computation, runs in _runs(computations, entry).items():
        for line in computations[computation]:
            if "custom-call(" not in line:
                continue
            if match := _CUDNN.search(line):
                name = f"cudnn {match['name']}"
            elif match := _PALLAS.search(line):
                name = match["name"]
            else:
                continue
            kernels[name] = kernels.get(name, 0) + round(runs)
    return kernels


def _computations(hlo_text: str) -> tuple[dict[str, list[str]], str]:
    """Name -> lines of every computation, and the name of the one that the program begins with."""
    computations: dict[str, list[str]] = {}
    entry = lines = None
    for line in hlo_text.splitlines():
        if match := _COMPUTATION.match(line):
            lines = computations.setdefault(match["name"], [])
            if match["entry"]:
                entry = match["name"]
        elif lines is not None:
            lines.append(line)
    assert entry is not None, "a program has an ENTRY"
    return computations, entry


def _runs(computations: Mapping[str, Sequence[str]], entry: str) -> dict[str, int]:
    """How often each computation runs in one run of the program."""
    runs: dict[str, int] = {}

    def visit(name: str, times: int) -> None:
        runs[name] = runs.get(name, 0) + times
        for line in computations[name]:
            called = {
                (match["how"], callee.lstrip("%"))
                for match in _CALLED.finditer(line)
                for callee in (match["name"] or match["names"]).split(", ")
            }
            if not called:
                continue
            turns = _turns(line, computations) if " while(" in line else 1
            for how, callee in called:
                if callee in computations:
                    visit(callee, times * (turns if how == "body" else 1))

    visit(entry, 1)
    return runs


def _turns(line: str, computations: Mapping[str, Sequence[str]]) -> int:
    """How often a while loop turns: as XLA notes it, else the bound that its condition compares with."""
    if match := _TRIPS.search(line):
        return int(match[1])
    condition = re.search(r"condition=%?([\w.\-]+)", line)
    bounds = [
        int(match[1])
        for inner in computations.get(condition[1] if condition else "", ())
        if (match := _INTEGER.search(inner))
    ]
    return max(bounds, default=1)


def _result_bytes(type_text: str, kind: str, started: bool, group_size: int) -> float:
    """Bytes of an exchange's results. One that is only started gives its inputs beside them, but for an all-reduce."""
    total = sum(
        math.prod(int(size) for size in dims.split(",") if size) * _item_bytes(dtype)
        for dtype, dims in _SHAPE.findall(type_text)
    )
    if not started or kind == "all-reduce":
        return total
    return total * group_size / (group_size + 1) if kind == "all-gather" else total / 2


def _item_bytes(dtype: str) -> int:
    return 1 if dtype == "pred" else max(int(re.search(r"\d+", dtype)[0]) // 8, 1)


def _sent_bytes(kind: str, num_bytes: float, group_size: int) -> float:
    """Out of one device in a ring of `group_size`, for a result of `num_bytes`."""
    share = (group_size - 1) / group_size
    if kind == "all-reduce":
        return 2 * num_bytes * share
    if kind == "reduce-scatter":  # the result is one of group_size parts
        return num_bytes * (group_size - 1)
    return float(num_bytes) if kind.startswith("collective") else num_bytes * share


def _groups(line: str, num_devices: int) -> list[list[int]]:
    if match := _GROUPS.search(line):
        dims = [int(size) for size in match["dims"].split(",")]
        ids = np.arange(math.prod(dims)).reshape(dims)
        if match["order"]:
            ids = ids.transpose([int(axis) for axis in match["order"].split(",")])
        return ids.reshape([int(size) for size in match["shape"].split(",")]).tolist()
    if match := _MESH_GROUPS.search(line):
        return _groups_along(match["mesh"], match["axes"])
    for pattern in (_LISTED_GROUPS, _PAIRS):
        if match := pattern.search(line):
            return [
                [int(device) for device in group.split(",")]
                for group in re.findall(r"\{([\d, ]+)\}", match["groups"])
            ]
    return [list(range(num_devices))]


def _groups_along(mesh: str, axes: str) -> list[list[int]]:
    """Devices that differ only along some axes of a mesh: 'a'=4,'b'=2 and 'b', or 'a':(2)2 for the later half of 'a'."""
    sizes = {name: int(size) for name, size in re.findall(r"'(\w+)'=(\d+)", mesh)}
    used = {
        name: (int(before or 1), int(size or sizes[name]))
        for name, before, size in re.findall(r"'(\w+)'(?::\((\d+)\)(\d+))?", axes)
    }
    shape: list[int] = []
    along = []
    for name, size in sizes.items():
        before, part = used.get(name, (1, 1))
        if name in used:
            along.append(len(shape) + 1)
        shape += [before, part, size // before // part]
    rest = [axis for axis in range(len(shape)) if axis not in along]
    ids = np.arange(math.prod(shape)).reshape(shape).transpose([*rest, *along])
    return ids.reshape(-1, math.prod(shape[axis] for axis in along)).tolist()
