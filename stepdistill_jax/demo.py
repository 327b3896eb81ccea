"""`make demo`: the embedded word problems, from rows to report, with and without rationales."""

import sys
import time
from pathlib import Path

from stepdistill_jax import datasets, runs
from stepdistill_jax.engine import launch

DATASET = "wordproblems"
# The two students differ in the mixture that they learn from, and in nothing else.
STUDENTS = {"fine_tuning": f"{DATASET}_label", "step_by_step": f"{DATASET}_step_by_step"}


def run(output: Path, *, steps: int | None = None) -> Path:
    """Prepares, teaches, trains both students on the same rows for the same steps, scores and reports them.

    Args:
      output: gets data/, a run's folder for each student, and report/. What is there already is not done again.
      steps: of each student; None takes gin/dsbs_t5_tiny.gin's.

    Returns:
      The report's page.
    """
    from stepdistill_jax import report, teacher

    started = time.monotonic()
    data_dir = output / "data"
    datasets.load_tasks()
    counts = datasets.prepare(DATASET, data_dir=data_dir)["counts"]
    _say(f"1/4  {sum(counts.values()):,} word problems in {data_dir / DATASET / 'examples'}")
    teacher.teach(DATASET, teacher="worked", data_dir=data_dir)
    _say(f"2/4  their worked solutions as rationales in {data_dir / DATASET / 'rationales' / 'worked'}")

    accuracy = {}
    for method, mixture in STUDENTS.items():
        folder = output / method
        _say(f"3/4  training the student '{method}' in {folder}")
        bindings = [f"MODEL_DIR = {str(folder)!r}", f"MIXTURE_OR_TASK_NAME = {mixture!r}"]
        if steps is not None:
            bindings.append(f"TRAIN_STEPS = {steps}")
        launch.call("train", ["gin/dsbs_t5_tiny.gin"], bindings, data_dir=data_dir)
        accuracy[method] = runs.evaluate(folder, data_dir=data_dir)[0]
    page = report.write_report([output / method for method in STUDENTS], output / "report")
    _say(f"4/4  report: {page}")
    for method, row in accuracy.items():
        _say(
            f"     {method:<13} {row['accuracy']:.1f} % of the test split ({row['num_correct']} of {row['num_examples']})"
        )
    _say(f"     in {(time.monotonic() - started) / 60:.1f} minutes")
    return page


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
