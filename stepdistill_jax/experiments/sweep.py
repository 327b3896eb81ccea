"""`stepdistill sweep`: does an experiment's runs, each in a process of its own, and goes on where it was stopped."""

import collections
import contextlib
import dataclasses
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from stepdistill_jax.base import locations
from stepdistill_jax.base.visible import visible
from stepdistill_jax.base.whole_files import write_atomically
from stepdistill_jax.engine.cluster import preemption
from stepdistill_jax.experiments import children, run_files
from stepdistill_jax.experiments.experiment_file import Experiment
from stepdistill_jax.experiments.planned_run import PlannedRun, planned_runs
from stepdistill_jax.experiments.prepared_data import provide_data
from stepdistill_jax.report.sweep import published
from stepdistill_jax.report.sweep.folder import failure_file, log_file

_POLL_SECONDS = 0.1


def sweep(experiment: Experiment, *, output: Path, jobs: int = 1, data_dir: Path | None = None) -> int:
    """Does all runs that are not done, then writes the report; returns the exit status.

    0 if every run is done; 1 if some failed, which are named; 130 after Ctrl-C and 75 after SIGTERM or SIGUSR1, once the
    runs in hand are saved.

    Args:
      output: SWEEP, see `run_files`.
      jobs: runs at a time.
      data_dir: prepared data; None takes $STEPDISTILL_DATA_DIR or ./data.

    Raises:
      FolderInUse: if another process sweeps there.
      ValueError: before anything is run, if settings do not fit what there is.
    """
    if jobs < 1:
        raise ValueError(f"--jobs={jobs}; use 1 or more.")
    runs = planned_runs(experiment)
    with run_files.only_one(output / "locks" / "sweep", f"SWEEP {output}"):
        for run in runs:
            run_files.check_plan(run, output)
        begin_folder(experiment, output)
        to_do = [run for run in runs if not is_done(run, output)]
        provide_data(to_do, data_dir=data_dir)
        for run in runs if to_do else ():
            run_files.check_data(run, output, locations.data_dir(data_dir))
        _say(f"{experiment.title}: {len(runs)} runs in {output}, {len(runs) - len(to_do)} done")
        scheduler = _Scheduler(experiment.path, output, data_dir, jobs, len(to_do))
        status = scheduler.do(to_do)
        if status is not None:
            return status
        for run_id, reason in scheduler.failures.items():
            _say(f"failed: {run_id}: {reason} (whole log: {log_file(output, run_id)})")
        _write_report(output)
    return 1 if scheduler.failures else 0


def is_done(run: PlannedRun, output: Path) -> bool:
    """Whether the run has its result."""
    return run_files.read_result(run_files.run_folder(output, run.run_id)) is not None


def listing(experiment: Experiment, output: Path) -> Iterator[str]:
    """A line a run: whether it is done, and with what accuracy; or has failed, and why."""
    for run in planned_runs(experiment):
        result = run_files.read_result(run_files.run_folder(output, run.run_id))
        failure = failure_file(output, run.run_id)
        if result is not None:
            yield f"done    {run.run_id}{_scored(result)}"
        elif failure.exists():
            last = failure.read_text(encoding="utf-8").strip().splitlines()[-1:]
            yield "  ".join(["failed", run.run_id, *last])
        else:
            yield f"to do   {run.run_id}"


@dataclasses.dataclass
class _Scheduler:
    """Children at work, and what came of those that have ended."""

    file: Path
    output: Path
    data_dir: Path | None
    jobs: int
    total: int
    ended: int = 0
    failures: dict[str, str] = dataclasses.field(default_factory=dict)

    def do(self, to_do: Sequence[PlannedRun]) -> int | None:
        """Does the runs, `jobs` at a time; an exit status if a signal stopped that."""
        waiting, running = collections.deque(to_do), list[children.Child]()
        with _signals() as came:
            told = 0
            try:
                while running or (waiting and not came):
                    while waiting and not came and len(running) < self.jobs:
                        running.append(self._start(waiting.popleft()))
                    if len(came) > told:
                        self._pass_on(running, again=told > 0)
                        told = len(came)
                    time.sleep(_POLL_SECONDS)
                    for child in [child for child in running if child.process.poll() is not None]:
                        running.remove(child)
                        self._end(child, stopped=bool(came))
            finally:
                for child in running:  # an error of ours
                    child.process.kill()
        if not came:
            return None
        _say("Stopped; the same command goes on from here.")
        return 130 if came[0] == signal.SIGINT else preemption.EXIT_STATUS

    def _start(self, run: PlannedRun) -> children.Child:
        arguments = ["sweep", str(self.file), "--only", run.run_id, "--output", str(self.output), "--child"]
        if self.data_dir is not None:
            arguments += ["--data_dir", str(self.data_dir)]
        return children.start(arguments, run_id=run.run_id, output=self.output, jobs=self.jobs)

    def _pass_on(self, running: Sequence[children.Child], *, again: bool) -> None:
        if running and not again:
            _say("Waiting for the runs in hand to save; once more ends them at once.")
        for child in running:
            child.process.send_signal(signal.SIGKILL if again else signal.SIGTERM)

    def _end(self, child: children.Child, *, stopped: bool) -> None:
        child.process.stdin.close()
        result = run_files.read_result(run_files.run_folder(self.output, child.run_id))
        if result is None and stopped:
            return
        self.ended += 1
        if result is None:
            self.failures[child.run_id] = child.failure()
            write_atomically(failure_file(self.output, child.run_id), self.failures[child.run_id] + "\n")
        came_out = f"  failed: {self.failures[child.run_id]}" if result is None else _scored(result)
        _say(f"[{self.ended}/{self.total}] {child.run_id}{came_out}  ({child.seconds:.0f} s)")


@contextlib.contextmanager
def _signals() -> Iterator[list[int]]:
    """The signals that have come so far; what they do otherwise is put off."""
    came: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
    before = {number: signal.signal(number, lambda signum, frame: came.append(signum)) for number in numbers}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _scored(result: dict) -> str:
    shown = [
        f"{split} {score['accuracy']:.1f} % ({score['num_correct']} of {score['num_examples']})"
        for split in ("validation", "test")
        if (score := result[split])
    ]
    step = f", step {result['step']}" if result["step"] is not None else ""
    return f"  {', '.join(shown)}{step}"


def begin_folder(experiment: Experiment, output: Path) -> None:
    """Writes SWEEP/experiment.toml, and published accuracies beside the experiment file, unless SWEEP has some itself.

    Raises:
      ValueError: if these can't be read, with file and line.
    """
    write_atomically(output / "experiment.toml", experiment.text)
    beside = experiment.path.parent
    if published.read_published(beside) and not (output / published.FILE).exists():
        write_atomically(output / published.FILE, (beside / published.FILE).read_text(encoding="utf-8"))


def _write_report(output: Path) -> None:
    from stepdistill_jax import report

    if any((output / "runs").glob(f"*/{run_files.RESULT}")):
        _say(f"report: {report.write_sweep_report(output)}")


def _say(line: str) -> None:
    print(visible(line), file=sys.stderr, flush=True)
