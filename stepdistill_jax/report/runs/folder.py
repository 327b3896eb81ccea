"""What a run left on disk, read back: its settings, metrics, timing and predictions."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stepdistill_jax.base.intervals import wilson_interval
from stepdistill_jax.base.methods import method_of_task
from stepdistill_jax.base.text_fit import task_fit

# What is decoded; scored choices beside it have a form of their own (`report.choices`).
PREDICTIONS_NAME = re.compile(
    r"(?!choices-)(?P<task>.+)-(?P<split>train|validation|test)-(?P<step>\d+)\.jsonl"
)

_OF_SPLIT = re.compile(r"[^/]+/(train|validation|test)/")  # an example's id


@dataclass(frozen=True)
class Accuracy:
    """How many answers of one decoded evaluation were right."""

    split: str
    num_correct: int
    num_examples: int
    step: int | None = None
    task: str = ""

    @property
    def percent(self) -> float:
        return 100.0 * self.num_correct / self.num_examples

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval over the examples, in percent."""
        return wilson_interval(self.num_correct, self.num_examples)

    @property
    def text(self) -> str:
        """'100.0 (88.6 to 100.0)': percent, and its interval."""
        low, high = self.interval
        return f"{self.percent:.1f} ({low:.1f} to {high:.1f})"


@dataclass(frozen=True)
class Prediction:
    """What a student answered to one example, beside the gold label."""

    example_id: str
    inputs: str
    target: str
    prediction: str
    correct: bool | None  # None where the task has no accuracy


@dataclass(frozen=True)
class PredictionFile:
    """Where the predictions of one evaluation lie; they are read when asked for, as they can be long."""

    path: Path
    task: str
    split: str
    step: int


@dataclass(frozen=True)
class Run:
    """One run folder. `metrics` and `timing` are the lines of their files in order of step."""

    name: str
    folder: Path
    method: str
    dataset: str
    settings: dict[str, Any]
    config: str
    metrics: tuple[dict[str, Any], ...]
    timing: tuple[dict[str, Any], ...]
    evaluations: tuple[Accuracy, ...]
    prediction_files: tuple[PredictionFile, ...]
    notes: tuple[str, ...] = field(default=())

    @property
    def num_steps(self) -> int:
        """Steps trained so far; those that came with a pretrained checkpoint are not counted."""
        first_step = self.settings.get("first_step")
        return max(row["step"] for row in self.metrics) - (first_step if isinstance(first_step, int) else 0)

    @property
    def seconds(self) -> float | None:
        """Time spent in seconds, added up over restarts: work that was done twice counts twice."""
        total, segment = 0.0, None
        for row in self.timing:
            seconds = finite(row.get("seconds"))
            if seconds is None:
                continue
            if segment is not None and seconds < segment:
                total += segment
            segment = seconds
        return None if segment is None else total + segment

    @property
    def tokens_per_second(self) -> float | None:
        """Median over the log periods of non-padding tokens per second."""
        rates = sorted(
            rate for row in self.timing if (rate := finite(row.get("tokens_per_second"))) is not None
        )
        return (rates[(len(rates) - 1) // 2] + rates[len(rates) // 2]) / 2 if rates else None

    def curve(self, key: str, split: str) -> list[tuple[int, float]]:
        """(step, value) of every line of `split` that has `key`; values that are not finite come back as NaN.

        If several tasks report the same key on a split, the gold-label task of the dataset is followed, else the first.
        """
        rows = [row for row in self.metrics if row.get("split") == split and is_number(row.get(key))]
        tasks = [row.get("task", "") for row in rows if math.isfinite(row[key])]
        task = self._followed_task(tasks or [row.get("task", "") for row in rows])
        values = {row["step"]: row[key] for row in rows if row.get("task", "") == task}
        return [(step, value if math.isfinite(value) else math.nan) for step, value in sorted(values.items())]

    def last(self, key: str, split: str = "train") -> float | None:
        """Value of `key` at the last step that has it; None if there is none or it is not finite."""
        points = self.curve(key, split)
        return finite(points[-1][1]) if points else None

    def accuracies(self, split: str) -> list[Accuracy]:
        """Decoded evaluations of `split` in order of step, of the gold-label task if it is there, else of the first."""
        found = [accuracy for accuracy in self.evaluations if accuracy.split == split]
        task = self._followed_task([accuracy.task for accuracy in found])
        by_step = {accuracy.step: accuracy for accuracy in found if accuracy.task == task}
        return [by_step[step] for step in sorted(by_step)]

    def test_accuracy(self) -> Accuracy | None:
        """The test evaluation of the last step that has one. Not the best one: that would be choosing on test rows."""
        accuracies = self.accuracies("test")
        return accuracies[-1] if accuracies else None

    def predictions(self, split: str, step: int | None = None) -> list[Prediction]:
        """Predictions of `split` at `step` (the last one if None), each example id once; [] if there are none."""
        files = [f for f in self.prediction_files if f.split == split and step in (None, f.step)]
        task = self._followed_task([f.task for f in files])
        files = sorted((f for f in files if f.task == task), key=lambda f: f.step)
        return read_predictions(files[-1].path) if files else []

    def _followed_task(self, tasks: Sequence[str]) -> str:
        label_task = f"{self.dataset}_label"
        return label_task if label_task in tasks else next(iter(tasks), "")


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def finite(value: Any) -> float | None:
    """`value` as a float; None if it is no number, NaN or infinite."""
    return float(value) if is_number(value) and math.isfinite(value) else None


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """The runs of `folders`, each once, under names that tell them apart.

    Raises:
      ValueError: no folder given, or a file in one that is not what a run writes (file and line are named).
      FileNotFoundError: a folder is missing or holds no metrics.jsonl.
    """
    folders = list(dict.fromkeys(Path(folder).resolve() for folder in folders))
    if not folders:
        raise ValueError(
            "no run folder given to the report; name at least one, as in: stepdistill report runs/cqa"
        )
    runs = [
        read_run(folder, name=name) for folder, name in zip(folders, _distinct_names(folders), strict=True)
    ]
    _check_no_copies(runs)
    return runs


def _check_no_copies(runs: Sequence[Run]) -> None:
    """A folder that was copied as it stood is no second run: the page would take it for a repetition.

    Raises:
      ValueError: names both folders.
    """
    known: dict[str, Run] = {}
    for run in runs:
        starts = run.settings.get("starts")
        if not starts:
            continue  # of an earlier version, which nobody can tell from another
        first = known.setdefault(json.dumps([starts, run.metrics], sort_keys=True), run)
        if first is not run:
            raise ValueError(
                f"{run.folder} is a copy of {first.folder}: both have the same starts and metrics, so one run would count twice. "
                "Name one of them."
            )


def read_run(folder: Path, *, name: str) -> Run:
    """The run in `folder`. A run in progress is welcome: a half-written last line is left out and noted."""
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such run folder; give the MODEL_DIR of a run that was started")
    if not (folder / "metrics.jsonl").is_file():
        raise FileNotFoundError(
            f"{folder}: no metrics.jsonl in this folder; give the MODEL_DIR that training wrote, or wait for its first log line"
        )
    notes: list[str] = []
    rows = _read_metrics(folder / "metrics.jsonl", notes)
    if not rows:
        raise ValueError(
            f"{folder / 'metrics.jsonl'}: no complete line yet; wait for the first log line of the run"
        )
    settings = read_settings(folder, notes)
    dataset, method = _dataset_and_method(
        str(settings.get("mixture_or_task_name") or ""), [row["task"] for row in rows if row.get("task")]
    )
    evaluation_rows = [*rows, *_read_evaluations(folder, notes)]
    prediction_files = _find_predictions(folder)
    notes += [f"{row['split']} loss is not finite at step {row['step']}" for row in rows if _is_broken(row)][
        :3
    ]
    notes += fit_notes(settings, folder)
    config = folder / "config.gin"
    if not config.is_file():
        notes.append("config.gin is missing, so the settings of this run are unknown")
    return Run(
        name=name,
        folder=folder,
        method=str(settings.get("method") or method),
        dataset=str(settings.get("dataset") or dataset),
        settings=settings,
        config=config.read_text(encoding="utf-8", errors="replace") if config.is_file() else "",
        metrics=tuple(sorted(rows, key=lambda row: row["step"])),
        timing=tuple(read_json_lines(folder / "timing.jsonl", notes))
        if (folder / "timing.jsonl").is_file()
        else (),
        evaluations=tuple(_to_accuracies(evaluation_rows, folder, notes)),
        prediction_files=tuple(prediction_files),
        notes=tuple(notes),
    )


def read_json_lines(path: Path, notes: list[str]) -> list[dict[str, Any]]:
    """The objects of `path`. A broken last line (a write was cut off) is left out and added to `notes`.

    Raises:
      ValueError: a line before the last one is not a JSON object.
    """
    # By "\n" alone: a text may hold what Unicode calls a line's end.
    lines = path.read_text(encoding="utf-8", errors="replace").removesuffix("\n").split("\n")
    rows = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            if number == len(lines):
                notes.append(f"the last line of {path.name} (line {number}) is cut off and was left out")
                break
            raise ValueError(
                f"{path}:{number}: not JSON: {line[:60]!r}; remove the line or run again"
            ) from error
        if not isinstance(row, dict):
            raise ValueError(
                f"{path}:{number}: {line[:60]!r} is not a JSON object; remove the line or run again"
            )
        rows.append(row)
    return rows


def read_predictions(path: Path) -> list[Prediction]:
    """The predictions in `path`, each example id once (the first), as a padded last batch may repeat rows.

    Raises:
      ValueError: names the file and line that holds no prediction, or one of another split than the file's name says.
    """
    named = PREDICTIONS_NAME.fullmatch(path.name)
    predictions: dict[str, Prediction] = {}
    for number, row in enumerate(read_json_lines(path, []), start=1):
        if "prediction" not in row or "correct" not in row:
            raise ValueError(
                f"{path}:{number}: no 'prediction' and 'correct' in the line; evaluate the checkpoint again"
            )
        example_id = str(row.get("example_id") or f"row {number}")
        of_split = _OF_SPLIT.match(example_id)
        if named and of_split and of_split[1] != named["split"]:
            raise ValueError(
                f"{path}:{number}: {example_id} is not of the {named['split']} split, which the file's name says; evaluate the "
                "checkpoint again"
            )
        texts = {key: str(row.get(key, "")) for key in ("inputs", "target", "prediction")}
        prediction = Prediction(
            example_id=example_id,
            correct=row["correct"] if row["correct"] is None else bool(row["correct"]),
            **texts,
        )
        predictions.setdefault(example_id, prediction)
    return list(predictions.values())


def _read_metrics(path: Path, notes: list[str]) -> list[dict[str, Any]]:
    rows = read_json_lines(path, notes)
    for number, row in enumerate(rows, start=1):
        if not isinstance(row.get("step"), int) or not isinstance(row.get("split"), str):
            raise ValueError(
                f"{path}: object {number} has no integer 'step' and text 'split': {str(row)[:60]}; remove it"
            )
    return rows


def read_settings(folder: Path, notes: list[str]) -> dict[str, Any]:
    """run.json; {} and a note where there is none."""
    path = folder / "run.json"
    if not path.is_file():
        notes.append("run.json is missing, so command, versions, seed and method are unknown")
        return {}
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{path}: not JSON ({error}); restore it, or remove it to report without it"
        ) from error
    if not isinstance(settings, dict):
        raise ValueError(f"{path}: holds {type(settings).__name__}, not an object; restore it, or remove it")
    return settings


def fit_notes(settings: Mapping[str, Any], folder: Path) -> list[str]:
    """What run.json says of training texts that its vocabulary changed, or that were cut, and their share."""
    try:
        fits = {name: task_fit(saved) for name, saved in (settings.get("text_fit") or {}).items()}
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{folder / 'run.json'}: its text_fit is not what a run writes ({error}); restore it, or remove that key"
        ) from error
    return [sentence for name, fit in fits.items() for sentence in fit.sentences(f"{name}/train")]


def _read_evaluations(folder: Path, notes: list[str]) -> list[dict[str, Any]]:
    """Lines of RUN/<any>/metrics.jsonl, oldest file first, so that a later evaluation of a step replaces an earlier one."""
    paths = sorted(folder.glob("*/metrics.jsonl"), key=lambda path: (path.stat().st_mtime, path))
    return [row for path in paths for row in _read_metrics(path, notes)]


def _to_accuracies(rows: Sequence[dict[str, Any]], folder: Path, notes: list[str]) -> list[Accuracy]:
    accuracies = []
    for row in rows:
        correct, total = row.get("num_correct"), row.get("num_examples")
        if not (is_number(correct) and is_number(total)):
            continue
        if not 0 <= correct <= total or total == 0:
            notes.append(
                f"{row['split']} evaluation at step {row['step']} has {correct} of {total} right; left out"
            )
            continue
        accuracies.append(
            Accuracy(row["split"], int(correct), int(total), row["step"], str(row.get("task") or ""))
        )
    return accuracies


def _find_predictions(folder: Path) -> list[PredictionFile]:
    files = []
    for path in sorted([*folder.glob("predictions/*.jsonl"), *folder.glob("*/predictions/*.jsonl")]):
        if match := PREDICTIONS_NAME.fullmatch(path.name):
            files.append(PredictionFile(path, match["task"], match["split"], int(match["step"])))
    return files


def _dataset_and_method(trained_on: str, evaluated: Sequence[str]) -> tuple[str, str]:
    """('cqa', 'step_by_step') for 'cqa_step_by_step'; a mixture of one's own is a method by its own name.

    'my_mixture', of which 'cqa_label' is evaluated -> ('cqa', 'my_mixture')
    """
    if found := method_of_task(trained_on):
        dataset, method = found
        return dataset, method.name
    if trained_on.endswith("_rationale"):  # that half of step-by-step alone
        return trained_on.removesuffix("_rationale"), "rationale"
    datasets = [found[0] for task in evaluated if (found := method_of_task(task))]
    dataset = datasets[0] if datasets else trained_on or next(iter(evaluated), "unknown")
    return dataset, trained_on.removeprefix(f"{dataset}_") or "unknown"


def _is_broken(row: dict[str, Any]) -> bool:
    return is_number(row.get("loss")) and not math.isfinite(row["loss"])


def _distinct_names(folders: Sequence[Path]) -> list[str]:
    """The last part of each path, with as many parts in front as it takes to tell all apart."""
    depth = 1
    while True:
        names = ["/".join(folder.parts[-depth:]) for folder in folders]
        if len(set(names)) == len(names):
            return names
        depth += 1
