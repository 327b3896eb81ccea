"""What one does with a run's folder: score a checkpoint, write its predictions, ask it.

Scoring rebuilds the model from the run's own config.gin. A run is asked by its student.json, and so are exports; by config.gin where
it has none, or its task is one of the user's own.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stepdistill_jax.base import checkpoint_folders
from stepdistill_jax.base.messages import say_once
from stepdistill_jax.engine.hardware.present_devices import check_devices
from stepdistill_jax.launching import launch
from stepdistill_jax.launching.task_modules import own_modules
from stepdistill_jax.prediction.description import STUDENT, read_description
from stepdistill_jax.tables import Inputs


def evaluate(
    run: Path,
    *,
    split: str = "test",
    step: int | None = None,
    task: str | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    gin_bindings: Sequence[str] = (),
    verify: bool = True,
) -> list[dict[str, Any]]:
    """Scores a checkpoint of a run through SeqIO and writes RUN/<split>_eval; returns a row of metrics a task.

    A student with choices is calibrated on validation besides, and its choices' probabilities are written (`choice_scores`).

    `gin_bindings` change the run's own: 'NUM_PARTITIONS = 1' evaluates on one device what eight have trained. Without
    `verify` the checkpoint's files are not compared with its checksums.
    """
    run = Path(run)
    _say_missing_tasks(run)
    config = _config(run)
    output = run / f"{split}_eval"
    bindings = [
        f"EVAL_OUTPUT_DIR = {str(output)!r}",
        f"SPLIT = {split!r}",
        *_bindings(run, step, task, verify=verify),
    ]
    rows = launch.call("eval", ["gin/eval.gin", config], [*bindings, *gin_bindings], data_dir=data_dir)
    from stepdistill_jax.launching import choice_scores

    if task is None and choice_scores.scores_choices(run):
        choice_scores.evaluate_choices(
            run, split, step=step, data_dir=data_dir, num_partitions=_num_partitions(), verify=verify
        )
    return rows


def infer(
    run: Path,
    *,
    split: str = "test",
    step: int | None = None,
    task: str | None = None,
    mode: str = "predict",
    data_dir: str | os.PathLike[str] | None = None,
    gin_bindings: Sequence[str] = (),
    verify: bool = True,
) -> list[Path]:
    """Writes RUN/inferences/<split>/<task>-<mode>.jsonl-00000-of-00001 for every task; returns the files."""
    run = Path(run)
    _say_missing_tasks(run)
    config = _config(run)
    output = run / "inferences" / split
    bindings = [
        f"INFER_OUTPUT_DIR = {str(output)!r}",
        f"SPLIT = {split!r}",
        f"MODE = {mode!r}",
        *_bindings(run, step, task, verify=verify),
    ]
    return launch.call("infer", ["gin/infer.gin", config], [*bindings, *gin_bindings], data_dir=data_dir)


def predict(
    run: Path,
    texts: Sequence[str],
    *,
    rationale: bool = False,
    step: int | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    num_partitions: int = 1,
    verify: bool = True,
) -> list[str]:
    """The student's labels, or rationales, for questions given as text (without a task prefix); '' to a blank text.

    Standard error says how many texts the vocabulary changes, and how many texts and answers are cut.
    """
    if not texts:
        raise ValueError("predict: no text given, neither as arguments nor on standard input.")
    run = Path(run)
    if not needs_its_code(run):
        return _predict_whole(
            run, texts, rationale=rationale, step=step, num_partitions=num_partitions, verify=verify
        )
    _say_missing_tasks(run)
    config = _config(run)
    checkpoint = _checkpoint(run, step)
    launch.read_config(
        ["gin/predict.gin", config],
        [f"CHECKPOINT_PATH = {str(checkpoint)!r}", *_verifying(verify)],
        data_dir=data_dir,
        needs_seqio=False,
        left_out=["__main__"],
    )
    import gin

    from stepdistill_jax.launching import predictor

    check_devices()
    asked = [text for text in texts if text.strip()]
    answers = iter(
        launch.configured(gin.get_configurable(predictor.answer), asked, rationale=rationale) if asked else ()
    )
    return [next(answers) if text.strip() else "" for text in texts]


def _num_partitions() -> int:
    """What the configuration that was read last says."""
    import gin

    try:
        return gin.query_parameter("%NUM_PARTITIONS")
    except ValueError:  # the run's files have no such macro
        return 1


def needs_its_code(run: Path) -> bool:
    """Whether only config.gin, and modules of this machine, tell what the student of a run is."""
    return not (run / STUDENT).is_file() or read_description(run).own_task


def _say_missing_tasks(run: Path) -> None:
    """Says which modules with datasets the run was trained beside, where they are not named here."""
    if not (run / STUDENT).is_file():
        return
    missing = [module for module in read_description(run).task_modules if module not in own_modules()]
    if missing:
        say_once(
            f"{run} was trained with STEPDISTILL_TASKS={','.join(missing)}, which is not set here: where its dataset is not known, "
            "set it."
        )


def _predict_whole(run: Path, texts: Sequence[str], *, rationale: bool, **options: Any) -> list[str]:
    from stepdistill_jax.prediction.misfits import Misfits
    from stepdistill_jax.prediction.predictor import Predictor

    predictor = Predictor(run, **options)
    _say_if_header(texts[0], predictor.student.description.dataset.get("inputs"))
    misfits = Misfits(predictor)
    predictions = predictor(texts, rationale=rationale)
    misfits.add(texts, predictions)
    for sentence in misfits.sentences():
        say_once(sentence)
    return [(prediction.rationale if rationale else prediction.label) or "" for prediction in predictions]


def _say_if_header(text: str, template: str | None) -> None:
    """Says so where the first text is the header of a table that has the columns that the student reads."""
    columns = set(Inputs(template).columns) if template else set()
    cells = {cell.strip().strip('"') for cell in re.split("[,;|\t]", text)}
    if columns and columns <= cells:
        say_once(
            f"the first text, {text!r:.80}, is answered as a question, but looks like a table's header; a table goes in by --input and out "
            f"by --output."
        )


def _config(run: Path) -> str:
    path = run / "config.gin"
    if not path.exists():
        raise FileNotFoundError(
            f"{run} is not a run's folder: it has no config.gin. Train first, or name another folder."
        )
    return str(path.absolute())


def _checkpoint(run: Path, step: int | None) -> Path:
    return run.absolute() / checkpoint_folders.name_of(checkpoint_folders.find_step(run, step))


def _bindings(run: Path, step: int | None, task: str | None, *, verify: bool) -> list[str]:
    bindings = [f"CHECKPOINT_PATH = {str(_checkpoint(run, step))!r}", *_verifying(verify)]
    return bindings if task is None else [*bindings, f"MIXTURE_OR_TASK_NAME = {task!r}"]


def _verifying(verify: bool) -> list[str]:
    return [] if verify else ["utils.RestoreCheckpointConfig.verify = False"]
