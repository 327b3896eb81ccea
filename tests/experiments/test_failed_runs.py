"""What a sweep keeps of a run that failed, until it is begun again."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from stepdistill_jax.experiments import run_files, single_run, sweep
from stepdistill_jax.experiments.children import Child
from stepdistill_jax.report.sweep.folder import failure_file, log_file


@pytest.fixture
def failed(tmp_path):
    """A sweep's folder with a run that has ended with an error."""
    log = log_file(tmp_path, "run")
    log.parent.mkdir()
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-c", "raise SystemExit('first\\nerror: disk full')"],
            stdin=subprocess.PIPE,
            stderr=file,
        )
        process.wait()
    scheduler = sweep._Scheduler(Path("a.toml"), tmp_path, None, jobs=1, total=1)
    scheduler._end(Child("run", process, log, 0, 0.0), stopped=False)
    return tmp_path


def test_why_a_run_failed_is_kept(failed):
    assert failure_file(failed, "run").read_text(encoding="utf-8") == "error: disk full\n"


def test_a_listing_tells_failed_runs_from_those_to_do(failed, monkeypatch):
    monkeypatch.setattr(
        sweep, "planned_runs", lambda _: [SimpleNamespace(run_id=name) for name in ("run", "other")]
    )
    assert list(sweep.listing(None, failed)) == ["failed  run  error: disk full", "to do   other"]


def test_a_run_that_is_begun_again_is_no_failed_one(failed, monkeypatch):
    def begun(run):
        raise KeyboardInterrupt

    monkeypatch.setattr(run_files, "plan_of", begun)
    with pytest.raises(KeyboardInterrupt):
        single_run.do_run(SimpleNamespace(run_id="run"), output=failed, data_dir=None, command="")
    assert not failure_file(failed, "run").exists()
    assert log_file(failed, "run").exists()
