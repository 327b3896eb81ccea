"""What one does with a run's folder: score a checkpoint, write its predictions, ask it.

The model is rebuilt from the run's own config.gin, so nothing but the folder (and, to score, the data) is needed.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stepdistill_jax.base import checkpoint_folders
from stepdistill_jax.launching import launch


def evaluate(
    run: Path,
    *,
    split: str = "test",
    step: int | None = None,
    task: str | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    gin_bindings: Sequence[str] = (),
) -> list[dict[str, Any]]:
    """Scores a checkpoint of a run through SeqIO and writes RUN/<split>_eval; returns a row of metrics a task.

    `gin_bindings` change the run's own: 'NUM_PARTITIONS = 1' evaluates on one device what eight have trained.
    """
    config = _config(run)
    output = run / f"{split}_eval"
    bindings = [f"EVAL_OUTPUT_DIR = {str(output)!r}", f"SPLIT = {split!r}", *_bindings(run, step, task)]
    return launch.call("eval", ["gin/eval.gin", config], [*bindings, *gin_bindings], data_dir=data_dir)


def infer(
    run: Path,
    *,
    split: str = "test",
    step: int | None = None,
    task: str | None = None,
    mode: str = "predict",
    data_dir: str | os.PathLike[str] | None = None,
    gin_bindings: Sequence[str] = (),
) -> list[Path]:
    """Writes RUN/inferences/<split>/<task>-<mode>.jsonl-00000-of-00001 for every task; returns the files."""
    config = _config(run)
    output = run / "inferences" / split
    bindings = [
        f"INFER_OUTPUT_DIR = {str(output)!r}",
        f"SPLIT = {split!r}",
        f"MODE = {mode!r}",
        *_bindings(run, step, task),
    ]
    return launch.call("infer", ["gin/infer.gin", config], [*bindings, *gin_bindings], data_dir=data_dir)


def predict(
    run: Path,
    texts: Sequence[str],
    *,
    rationale: bool = False,
    step: int | None = None,
    data_dir: str | os.PathLike[str] | None = None,
) -> list[str]:
    """The student's labels, or rationales, for questions given as text (without a task prefix)."""
    if not texts:
        raise ValueError("predict: no text given, neither as arguments nor on standard input.")
    config = _config(run)
    checkpoint = _checkpoint(run, step)
    launch.read_config(
        ["gin/predict.gin", config],
        [f"CHECKPOINT_PATH = {str(checkpoint)!r}"],
        data_dir=data_dir,
        needs_seqio=False,
        left_out=["__main__"],
    )
    import gin

    from stepdistill_jax.launching import predictor

    return launch.configured(gin.get_configurable(predictor.answer), texts, rationale=rationale)


def _config(run: Path) -> str:
    path = run / "config.gin"
    if not path.exists():
        raise FileNotFoundError(
            f"{run} is not a run's folder: it has no config.gin. Train first, or name another folder."
        )
    return str(path.absolute())


def _checkpoint(run: Path, step: int | None) -> Path:
    steps = checkpoint_folders.steps_in(run)
    if not steps:
        raise FileNotFoundError(f"{run} has no checkpoint yet.")
    if step is not None and step not in steps:
        raise FileNotFoundError(
            f"{run} has no checkpoint of step {step}; it has {', '.join(map(str, steps))}."
        )
    return run.absolute() / checkpoint_folders.name_of(steps[-1] if step is None else step)


def _bindings(run: Path, step: int | None, task: str | None) -> list[str]:
    bindings = [f"CHECKPOINT_PATH = {str(_checkpoint(run, step))!r}"]
    return bindings if task is None else [*bindings, f"MIXTURE_OR_TASK_NAME = {task!r}"]
