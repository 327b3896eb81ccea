"""The data that runs read: looked for before the first of them begins; embedded data are made where they are missing."""

import functools
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from stepdistill_jax.base.folder_lock import FolderInUse
from stepdistill_jax.base.messages import say_once
from stepdistill_jax.experiments.planned_run import PlannedRun

_WORKED = "worked"
_LONGEST_WAIT_SECONDS = 600.0


def provide_data(runs: Iterable[PlannedRun], *, data_dir: Path | None) -> None:
    """Checks that examples and rationales of all runs are there.

    A dataset that is made rather than read is prepared here, and its worked solutions are written if a run learns from them.

    Raises:
      FileNotFoundError: one line with the command that makes what is missing.
    """
    from stepdistill_jax import datasets, teacher
    from stepdistill_jax.datasets import record_io

    root = datasets.data_dir(data_dir)
    wanted = {(run.dataset, run.teacher) for run in runs}
    wanted |= {(run.augmentation.dataset, run.teacher) for run in runs if run.augmentation}
    for name, answerer in sorted(wanted, key=str):
        embedded = datasets.get(name, root).rows is not None
        if record_io.read_manifest(root / name / "examples") is None:
            if not embedded:
                raise FileNotFoundError(f"No examples of {name} in {root}; run: stepdistill prepare {name}")
            _patiently(functools.partial(datasets.prepare, name, data_dir=root))
        if answerer is None or record_io.read_manifest(root / name / "rationales" / answerer) is not None:
            continue
        if not (embedded and answerer == _WORKED):
            raise FileNotFoundError(
                f"No rationales of {answerer} in {root / name / 'rationales'}; run: stepdistill teach {name} --teacher …"
            )
        _patiently(functools.partial(teacher.teach, name, teacher=_WORKED, data_dir=root))


def _patiently(make: Callable[[], object]) -> None:
    """Makes data, after others that make the same: the jobs of an array begin at one time."""
    deadline = time.monotonic() + _LONGEST_WAIT_SECONDS
    while True:
        try:
            make()
            return
        except FolderInUse as error:
            if time.monotonic() > deadline:
                raise
            say_once(f"Waiting: {error}")
            time.sleep(1)
