"""The files of a sweep's folder beside those of its runs (`engine.run_folder`), and who may write them.

SWEEP/experiment.toml          a copy of the experiment file
SWEEP/compiled/<host>/         compiled steps that the runs share; can be deleted
SWEEP/logs/<run id>.log        what a run printed
SWEEP/runs/<run id>/           a run's folder, and in it
  plan.json                    gin files and bindings, written first: a run goes on with no others
  seconds.json                 those that each process worked on it
  test_eval/                   the test split, read once, at the chosen step
  result.json                  written last: its presence means that the run is done
"""

import contextlib
import fcntl
import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from stepdistill_jax.base.whole_files import write_atomically
from stepdistill_jax.experiments.planned_run import PlannedRun

RESULT, PLAN, SECONDS = "result.json", "plan.json", "seconds.json"
# A process that was killed a moment ago may still be there.
_LONGEST_WAIT_SECONDS = 15.0


def run_folder(output: Path, run_id: str) -> Path:
    """SWEEP/runs/<run id>."""
    return output / "runs" / run_id


def read_result(folder: Path) -> dict[str, Any] | None:
    """A done run's result.json; None for any other."""
    path = folder / RESULT
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Writes a whole file or none."""
    write_atomically(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def check_plan(run: PlannedRun, output: Path) -> None:
    """Checks that what there is of a run was begun with the same settings.

    Raises:
      ValueError: names the first that differs.
    """
    folder = run_folder(output, run.run_id)
    path = folder / PLAN
    if not path.exists():
        return
    earlier = json.loads(path.read_text(encoding="utf-8"))
    pairs = (
        (before, now)
        for key, plan in plan_of(run).items()
        for before, now in zip([*earlier.get(key, []), None], [*plan, None], strict=False)
    )
    different = next(((before, now) for before, now in pairs if before != now), None)
    if different is not None:
        before, now = (f"'{line}'" if line else "nothing more" for line in different)
        raise ValueError(
            f"{folder} was begun with {before}, and the experiment file now has {now}; use another --output, or delete "
            "that folder."
        )


def plan_of(run: PlannedRun) -> dict[str, list[str]]:
    """What plan.json holds."""
    plan = {"gin_files": list(run.gin_files), "gin_bindings": list(run.gin_bindings())}
    return plan | ({"besides": ["rationales = true"]} if run.writes_rationales else {})


@contextlib.contextmanager
def only_one(path: Path, what: str) -> Iterator[None]:
    """Within it no other process is within it for the same file. It is free again when its process ends, however.

    Raises:
      ValueError: if another process is, and stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + _LONGEST_WAIT_SECONDS
    with path.open("w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > deadline:
                    raise ValueError(
                        f"{what}: another process is at work on it ({path} is locked)."
                    ) from error
                time.sleep(0.1)
        yield
