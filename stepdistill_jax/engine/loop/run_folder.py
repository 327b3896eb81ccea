"""A run's folder: what was run, with what, and what came out, in files that can be read while it runs.

config.gin, run.json    what was run, with what data, and every start of it, written before the first step
metrics.jsonl           an object a step: the same bytes however often the run was interrupted
timing.jsonl            rates, which differ from run to run
examples.jsonl          the ids of each step's examples, if asked for
fitted_step.json        of num_microbatches 'auto', and on GPUs and TPUs: how the step fits (`step.fitting`)
train/, inference_eval/ TensorBoard events
predictions/            <task>-<split>-<step>.jsonl
checkpoint_<step>/      Orbax
"""

import datetime
import importlib.metadata
import json
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from stepdistill_jax.base.gin_bindings import read_bindings
from stepdistill_jax.base.messages import say_once
from stepdistill_jax.base.whole_files import write_atomically
from stepdistill_jax.engine.loop import command_line

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
_SAID_SETTINGS = 8  # that changed, by name


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
    model_dir: Path,
    facts: Mapping[str, Any],
    *,
    start: Mapping[str, Any] | None = None,
    earlier: Mapping[str, Any] | None = None,
) -> None:
    """Writes run.json: command, commit, versions and devices, `facts` of the run, and under 'starts' each of its starts.

    Args:
      facts: of the run.
      start: further facts of this start, such as its step.
      earlier: the run.json of a run that goes on. Its command, first start and content stay; versions that differ from its
        last start's are said.
    """
    devices = jax.devices()
    this = {
        "command": command_line.words(),
        "commit": _commit(),
        "versions": _versions(),
        "python": platform.python_version(),
        "devices": f"{len(devices)} x {devices[0].device_kind}",
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    record = {**this, **facts}
    starts = _starts(earlier or {})
    if earlier:
        record |= {name: earlier[name] for name in ("command", "started") if name in earlier}
        record |= {"content": {**facts.get("content", {}), **earlier.get("content", {})}}
        _say_other_versions(model_dir, starts[-1], this)
    record["starts"] = [*starts, {**this, **(start or {})}]
    write_atomically(model_dir / "run.json", json.dumps(record, indent=2) + "\n")


def _starts(earlier: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The starts that a run.json tells of; one of an earlier version tells of the first, and the times of the others."""
    if "starts" in earlier:
        return list(earlier["starts"])
    kept = ("command", "commit", "versions", "python", "devices", "started")
    first = {name: earlier[name] for name in kept if name in earlier}
    return [first, *({"started": time} for time in earlier.get("resumed", []))] if first else []


def _say_other_versions(model_dir: Path, last: Mapping[str, Any], this: Mapping[str, Any]) -> None:
    then, now = last.get("versions") or {}, this["versions"]
    different = [
        f"{name} {now.get(name, 'absent')} (was {then.get(name, 'absent')})"
        for name in _PACKAGES
        if then and then.get(name) != now.get(name)
    ]
    if different:
        say_once(f"{model_dir} goes on under other versions: {', '.join(different)}.")


def read_config(model_dir: Path) -> dict[str, Any]:
    """What config.gin binds (`read_bindings`); {} where there is none that can be read: it is written anew."""
    try:
        return read_bindings(model_dir / "config.gin", fill_macros=False)
    except (FileNotFoundError, ValueError):
        return {}


def say_other_settings(model_dir: Path, before: Mapping[str, Any]) -> None:
    """Says what config.gin binds otherwise than `before`, when the run was last started; a run may have been moved."""
    now = read_config(model_dir)
    different = [
        f"{name} = {_shown(now, name)} (was {_shown(before, name)})"
        for name in sorted({*before, *now})
        if _shown(before, name) != _shown(now, name) and name != "MODEL_DIR"
    ]
    if before and different:
        said, more = different[:_SAID_SETTINGS], len(different) - _SAID_SETTINGS
        also = f", and {more} more, which config.gin has" if more > 0 else ""
        say_once(f"{model_dir} goes on with other settings: {', '.join(said)}{also}.")


def _shown(bindings: Mapping[str, Any], name: str) -> str:
    return repr(bindings[name]) if name in bindings else "its default"


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
