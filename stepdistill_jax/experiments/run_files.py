"""The files of a sweep's folder beside those of its runs (`engine.run_folder`), and who may write them.

SWEEP/experiment.toml          a copy of the experiment file
SWEEP/compiled/<host>/         compiled steps that the runs share; can be deleted
SWEEP/logs/<run id>.log        what a run printed
SWEEP/logs/<run id>.failure    why it ended without a result, until it is begun again
SWEEP/runs/<run id>/           a run's folder, and in it
  plan.json                    gin files and bindings, written first: a run goes on with no others
  seconds.json                 those that each process worked on it
  test_eval/                   the test split, read once, at the chosen step
  result.json                  written last: its presence means that the run is done
"""

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stepdistill_jax.base.folder_lock import FolderLock
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


def check_data(run: PlannedRun, output: Path, data_dir: Path) -> None:
    """Checks that the data are those that a run was begun with, so that all runs of a sweep are of the same.

    Raises:
      MixedData: names the first part that differs.
    """
    from stepdistill_jax.datasets.lineage.changes import changed_since
    from stepdistill_jax.datasets.lineage.mixed_data import settle

    folder = run_folder(output, run.run_id)
    for file in ("run.json", RESULT):
        path = folder / file
        facts = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        settle(changed_since(facts.get("content", {}), data_dir, place=folder))


def plan_of(run: PlannedRun) -> dict[str, list[str]]:
    """What plan.json holds."""
    plan = {"gin_files": list(run.gin_files), "gin_bindings": list(run.gin_bindings())}
    return plan | ({"besides": ["rationales = true"]} if run.writes_rationales else {})


def only_one(path: Path, what: str) -> contextlib.AbstractContextManager[FolderLock]:
    """Within it this process owns what the lock file stands for.

    Raises:
      FolderInUse: if another process does, and stays.
    """
    return FolderLock(path, what).held(patience_seconds=_LONGEST_WAIT_SECONDS)
