"""A run's folder: what was run, with what, and what came out, in files that can be read while it runs.

config.gin, run.json    what was run, written before the first step
metrics.jsonl           an object a step: the same bytes however often the run was interrupted
timing.jsonl            rates, which differ from run to run
examples.jsonl          the ids of each step's examples, if asked for
train/, inference_eval/ TensorBoard events
predictions/            <task>-<split>-<step>.jsonl
checkpoint_<step>/      Orbax
"""

import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jax

_PACKAGES = (
    "stepdistill-jax",
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "seqio",
    "tensorflow",
    "tensorflow-datasets",
    "sentencepiece",
    "numpy",
)


class JsonLines:
    """An append-only file of JSON objects, one a line, each with its step."""

    def __init__(self, path: Path, *, keep_up_to_step: int) -> None:
        """Opens the file. Lines of later steps, and one that was cut short, are dropped: they will be made again."""
        path.parent.mkdir(parents=True, exist_ok=True)
        kept = [line for line in _whole_lines(path) if line["step"] <= keep_up_to_step]
        write_atomically(path, "".join(_line(row) for row in kept))
        self._file = path.open("a", encoding="utf-8")

    def write(self, row: Mapping[str, Any]) -> None:
        """Appends one object."""
        self._file.write(_line(row))
        self._file.flush()

    def sync(self) -> None:
        """Returns once everything written is on the disk."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()


def _whole_lines(path: Path) -> Iterable[dict[str, Any]]:
    if not path.exists():
        return
    # Bytes: a line cut short may end inside a character, and text has more line ends than "\n".
    yield from map(json.loads, path.read_bytes().split(b"\n")[:-1])


def _line(row: Mapping[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False) + "\n"


def write_atomically(path: Path, text: str) -> None:
    """Writes a whole file or none: to a temporary name, then renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def output_folder(output_dir: str | os.PathLike[str]) -> Path:
    """The folder that an evaluation or inference writes to.

    Raises:
      ValueError: if it is a training run's own, whose config.gin and metrics.jsonl would be lost.
    """
    folder = Path(output_dir)
    if (folder / "run.json").exists():
        raise ValueError(
            f"output_dir={str(folder)!r} is a training run's own folder, whose config.gin and metrics.jsonl would be "
            f"lost; use a folder below it, e.g. {str(folder / 'test_eval')!r}."
        )
    return folder


def check_unchanged(model_dir: Path, earlier: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    """Checks that a run goes on with the settings that its run.json has.

    Raises:
      ValueError: names the first setting that differs.
    """
    for name, value in facts.items():
        if name in earlier and earlier[name] != value:
            raise ValueError(
                f"{name}={value!r}, but the run in {model_dir} has {earlier[name]!r}; use that, or another MODEL_DIR."
            )


def write_run_json(
    model_dir: Path, facts: Mapping[str, Any], *, earlier: Mapping[str, Any] | None = None
) -> None:
    """Writes run.json: the command, commit, versions and devices, and `facts` of the run.

    `earlier` is the run.json of a run that goes on: its command and start stay, and the time of going on is added.
    """
    devices = jax.devices()
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    record = {
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "commit": _commit(),
        "versions": _versions(),
        "python": platform.python_version(),
        "devices": f"{len(devices)} x {devices[0].device_kind}",
        "started": now,
        **facts,
    }
    if earlier:
        record |= {name: earlier[name] for name in ("command", "started") if name in earlier}
        record["resumed"] = [*earlier.get("resumed", []), now]
    write_atomically(model_dir / "run.json", json.dumps(record, indent=2) + "\n")


def read_run_json(model_dir: Path) -> dict[str, Any]:
    """run.json, or {} where there is none."""
    path = model_dir / "run.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def _versions() -> dict[str, str]:
    installed = {}
    for package in _PACKAGES:
        try:
            installed[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return installed


def _commit() -> str | None:
    """HEAD of our own clone; None for an installed wheel, whatever repository its environment lies in."""
    root = Path(__file__).resolve().parents[3]
    if not (root / ".git").exists():
        return None
    try:
        result = subprocess.run(
            ["git", "rev-parse", "HEAD"],
            cwd=root,
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() or None if result.returncode == 0 else None
