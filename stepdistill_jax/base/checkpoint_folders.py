"""A run's checkpoints by the names of their folders, `checkpoint_<step>`: T5X's way, and ours."""

import json
import math
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from stepdistill_jax.base.messages import say_once

BEST_BY = "best_by"  # of run.json: the metric that a run keeps its best checkpoint by, and 'max' or 'min'
_METRICS = "metrics/metrics"  # below a checkpoint, as Orbax writes it


def name_of(step: int) -> str:
    """'checkpoint_1000'."""
    return f"checkpoint_{step}"


def steps_of(names: Iterable[str]) -> list[int]:
    """The steps of the names that are a checkpoint's, in ascending order; one that is half written has a longer name."""
    return sorted(int(match[1]) for name in names if (match := re.fullmatch(r"checkpoint_(\d+)", name)))


def steps_in(folder: str | os.PathLike[str]) -> list[int]:
    """The steps of the checkpoints in a local folder, in ascending order; none if there is no such folder."""
    return steps_of(path.name for path in Path(folder).glob("checkpoint_*") if path.is_dir())


def find_step(run: str | os.PathLike[str], step: int | None) -> int:
    """The step that is asked for; else that of the best checkpoint, where the run keeps its best; else the newest.

    Raises:
      FileNotFoundError: if there is none.
      ValueError: if what says which is the best is damaged.
    """
    steps = steps_in(run)
    if not steps:
        raise FileNotFoundError(f"{run} has no checkpoint yet.")
    if step is not None and step not in steps:
        raise FileNotFoundError(
            f"{run} has no checkpoint of step {step}; it has {', '.join(map(str, steps))}."
        )
    return _best_or_newest(Path(run), steps) if step is None else step


def _best_or_newest(run: Path, steps: Sequence[int]) -> int:
    """Of equals the newest; says so where it is not the newest of all."""
    record = run / "run.json"
    best_by = _json(record).get(BEST_BY) if record.is_file() else None
    if best_by is None:
        return steps[-1]
    scores = {step: _score(run / name_of(step), best_by["metric"]) for step in steps}
    scored = [step for step in steps if scores[step] is not None]
    if not scored:
        return steps[-1]
    sign = -1 if best_by["mode"] == "min" else 1
    best = max(scored, key=lambda step: (sign * scores[step], step))
    if best != steps[-1]:
        say_once(
            f"{run}: the checkpoint of step {best} is taken, the best by {best_by['metric']} ({scores[best]:g}); the newest is of "
            f"step {steps[-1]} (--step {steps[-1]})."
        )
    return best


def _score(checkpoint: Path, metric: str) -> float | None:
    """The checkpoint's value of the metric; None where it was saved without, or it is no number."""
    path = checkpoint / _METRICS
    value = _json(path).get(metric) if path.is_file() else None
    return value if value is not None and math.isfinite(value) else None


def _json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"{path} is damaged ({error}), so the best checkpoint is not known; name one by --step."
        ) from error
