"""What each row of gin/meshes/README.md needs of a device: compiles its step for hardware that need not be there.

    pip install '.[tpu,cuda]'
    python bench/mesh_memory.py [--only v4:2x2x4 xl] [--missing] [--write]

The README's table says which mesh file serves which hardware and size. This fills its other columns, a row at a time, by
`t5x/precompile.py` in a process of its own: one to nine minutes and up to 7 GB each. Printed is the whole table; --write puts
each row into the README as soon as it is measured.
"""

import argparse
import dataclasses
import datetime
import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "gin" / "meshes" / "README.md"
HEAD = "| hardware | topology | size | mesh file |"
GIB = 2**30
# Platform of precompile's topology -> the package whose version says which compiler it was.
COMPILERS = {"tpu": "libtpu", "gpu": "jax-cuda13-plugin", "cpu": "jaxlib"}


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the table: which mesh file serves this hardware and size, and what was measured of it.

    Attributes:
      hardware: in words.
      topology: as `precompile --topology` names it.
      sizes: of gin/dsbs_t5_<size>.gin, the largest last: that one is measured.
      mesh: of gin/meshes/<mesh>.gin.
      measured: the other columns (split, batch, peak, memory, seconds, compiler), or six empty texts.
    """

    hardware: str
    topology: str
    sizes: tuple[str, ...]
    mesh: str
    measured: tuple[str, ...]

    @property
    def is_measured(self) -> bool:
        return all(self.measured)

    def __str__(self) -> str:
        return f"| {' | '.join((self.hardware, self.topology, ', '.join(self.sizes), self.mesh, *self.measured))} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--only", nargs="+", metavar="WORD", help="rows that have all these topologies, sizes or mesh files"
    )
    parser.add_argument("--missing", action="store_true", help="rows that have no measurement yet")
    parser.add_argument(
        "--write", action="store_true", help=f"write each row into {README.relative_to(ROOT)}"
    )
    args = parser.parse_args()
    rows = read_rows(README.read_text(encoding="utf-8"))
    for i, row in enumerate(rows):
        if not set(args.only or ()) <= {row.topology, *row.sizes, row.mesh} or (
            args.missing and row.is_measured
        ):
            continue
        rows[i] = measure(row)
        print(rows[i], file=sys.stderr, flush=True)
        if args.write:
            text = README.read_text(encoding="utf-8")  # again: it may have been edited in the meantime
            README.write_text(text.replace(_line_of(row, text), str(rows[i])), encoding="utf-8")
    print("\n".join(map(str, rows)))


def read_rows(text: str) -> list[Row]:
    """The rows of the README's table, in its order.

    Raises:
      ValueError: if there is no table.
    """
    lines = text.splitlines()
    heads = [i for i, line in enumerate(lines) if line.startswith(HEAD)]
    if len(heads) != 1:
        raise ValueError(f"{README}: {len(heads)} tables begin with {HEAD!r}; there must be one.")
    rows = []
    for line in lines[heads[0] + 2 :]:
        if not line.startswith("|"):
            break
        hardware, topology, sizes, mesh, *measured = (cell.strip() for cell in line.strip("|").split("|"))
        rows.append(Row(hardware, topology, tuple(sizes.split(", ")), mesh, tuple(measured)))
    return rows


def _line_of(row: Row, text: str) -> str:
    [line] = [
        line
        for line in text.splitlines()
        if line.startswith(f"{str(row).partition(row.mesh)[0]}{row.mesh} |")
    ]
    return line


def measure(row: Row) -> Row:
    """The row with its measured columns, by precompile; a step that does not fit is said to be so.

    Raises:
      RuntimeError: if precompile fails for another reason than memory.
    """
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [
                sys.executable,
                str(ROOT / "t5x" / "precompile.py"),
                f"--gin_file=gin/dsbs_t5_{row.sizes[-1]}.gin",
                f"--gin_file=gin/meshes/{row.mesh}.gin",
                f"--topology={row.topology}",
                f"--gin.MODEL_DIR='{folder}'",
            ],
            cwd=ROOT,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
            capture_output=True,
            text=True,
            check=False,
        )
        report_file = Path(folder) / "precompile.json"
        if report_file.exists():
            return dataclasses.replace(row, measured=measured_columns(json.loads(report_file.read_text())))
    last_line = (done.stderr.strip().splitlines() or ["no message"])[-1]
    if "does not fit" not in last_line:
        raise RuntimeError(f"{row.topology} {row.sizes[-1]} {row.mesh}: {last_line}")
    return dataclasses.replace(row, measured=refused_columns(row.topology, last_line))


def measured_columns(report: dict) -> tuple[str, ...]:
    """Of a precompile.json."""
    rows, input_tokens = report["batch"]["encoder_input_tokens"]
    _, target_tokens = report["batch"]["decoder_target_tokens"]
    usable = report["usable_bytes"]
    peak = report["peak_bytes"] / GIB
    peak = f"{peak:.1f}" if peak >= 1 else f"{peak:.2g}"
    split = " x ".join(f"{axis} {size}" for axis, size in report["mesh"].items())
    number = report["num_microbatches"]
    found = [f"{number} microbatches"] * (number > 1) + [report["layers"]] * bool(report["layers"])
    return (
        ", ".join([split, *found]),
        f"{rows} x {input_tokens} + {target_tokens}",
        peak if report["fits"] else f"does not fit: {peak}",
        f"{usable / GIB:.1f}" if usable else "the host's",
        f"{report['compute_seconds']:.3f} + {report['exchange_seconds']:.3f} s" if usable else "not known",
        _compiler(report["topology"]),
    )


def refused_columns(topology: str, message: str) -> tuple[str, ...]:
    """Of precompile's line about a step that the compiler would not have."""
    return ("not compiled", "not compiled", "does not fit: " + message.partition("it needs ")[2].partition(" on each")[0],
            message.partition("(")[2].partition(" GiB can")[0] or "not known", "not compiled", _compiler(topology))  # fmt: skip


def _compiler(topology: str) -> str:
    from stepdistill_jax.engine.hardware.topologies import parse_topology

    package = COMPILERS[parse_topology(topology).platform]
    versions = [f"{name} {importlib.metadata.version(name)}" for name in ("jax", package)]
    return ", ".join([*versions, datetime.date.today().isoformat()])


if __name__ == "__main__":
    main()
