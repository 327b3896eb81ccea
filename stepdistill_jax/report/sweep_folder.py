"""What a sweep left on disk, read back: SWEEP/runs/<run_id>/result.json and the test predictions beside it."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from stepdistill_jax.report.run_folder import (
    PREDICTIONS_NAME,
    Accuracy,
    Prediction,
    is_number,
    read_json_lines,
    read_predictions,
)
from stepdistill_jax.report.tables import METHOD_NAMES, TEACHER, method_name

# Settings of a run in the order of the tables' columns; others follow by name.
SETTINGS = ("dataset", "method", "teacher", "size", "train_share", "rationale_weight", "pairing", "prefixes")
SEEDS = ("seed", "subset_seed")
_HIDDEN = ("gin_file",)  # `size` says it in a word
_ORDER = tuple(METHOD_NAMES)


@dataclass(frozen=True)
class SweepRun:
    """One finished run of a sweep: its settings, what was measured, and where its predictions lie."""

    run_id: str
    folder: Path
    settings: Mapping[str, Any]  # as the experiment file says them
    result: Mapping[str, Any]
    validation: Accuracy | None
    test: Accuracy

    @property
    def dataset(self) -> str:
        return str(self.settings["dataset"])

    @property
    def method(self) -> str:
        return str(self.settings["method"])

    @property
    def seed(self) -> int:
        return int(self.settings.get("seed") or 0)

    @property
    def group_key(self) -> tuple[tuple[str, str], ...]:
        """The settings but for the seeds: runs with the same key are repetitions of each other."""
        return tuple(
            sorted((name, json.dumps(value)) for name, value in self.settings.items() if name not in SEEDS)
        )

    def number(self, name: str) -> float | None:
        """A measured number of result.json; None where it is absent."""
        value = self.result.get(name)
        return float(value) if is_number(value) else None

    @cached_property
    def answers(self) -> dict[str, Prediction]:
        """The label predictions on the test split at the chosen step, by example id; {} if there are none."""
        path = self._predictions_file(rationales=False)
        return {each.example_id: each for each in read_predictions(path)} if path else {}

    @cached_property
    def recorded(self) -> dict[str, bool]:
        """Whether each kept answer is right."""
        return {name: each.correct for name, each in self.answers.items() if each.correct is not None}

    @property
    def correct(self) -> dict[str, bool]:
        """`recorded`, if it adds up to the test accuracy: answers of another evaluation must not be compared."""
        return self.recorded if self.note == "" else {}

    @property
    def note(self) -> str:
        """What is wrong with the kept answers; '' if nothing is, or if none were kept."""
        counts = sum(self.recorded.values()), len(self.recorded)
        if not self.recorded or counts == (self.test.num_correct, self.test.num_examples):
            return ""
        return (
            f"{self.run_id}: its answers have {counts[0]} of {counts[1]} right, result.json {self.test.num_correct} of "
            f"{self.test.num_examples}; they are not used in paired tests"
        )

    @cached_property
    def rationales(self) -> dict[str, tuple[str, str]]:
        """Example id -> (the run's rationale, the teacher's or ''), where the run wrote rationales."""
        if path := self._predictions_file(rationales=True):
            return {each.example_id: (each.prediction, each.target) for each in read_predictions(path)}
        path = self._predictions_file(rationales=False)
        rows = read_json_lines(path, []) if path else []
        found = {}
        for row in rows:
            text = row.get("rationale")
            if text is None and isinstance(row.get("decoded"), str):
                text = _without_last_sentence(row["decoded"])
            if isinstance(text, str):
                found.setdefault(str(row.get("example_id")), (text, str(row.get("target_rationale") or "")))
        return found

    @cached_property
    def predictions_file(self) -> Path | None:
        return self._predictions_file(rationales=False)

    def _predictions_file(self, *, rationales: bool) -> Path | None:
        """The newest file of the kind at the step that validation chose; test_eval/ before predictions/."""
        step, found = self.result.get("step"), []
        for rank, place in enumerate(("test_eval/predictions", "test_eval", "predictions")):
            for path in sorted((self.folder / place).glob("*.jsonl")):
                match = PREDICTIONS_NAME.fullmatch(path.name)
                if match is None or match["split"] != "test":
                    continue
                if (match["task"] == f"{self.dataset}_rationale") != rationales:
                    continue
                if step is None or int(match["step"]) == step or self.method == TEACHER:
                    found.append((rank, -int(match["step"]), path.name, path))
        return min(found)[-1] if found else None


@dataclass(frozen=True)
class Group:
    """Runs that differ by their seeds only, in order of seed."""

    runs: tuple[SweepRun, ...]
    label: str  # the method, with the settings that tell it from others of its method

    @property
    def first(self) -> SweepRun:
        return self.runs[0]

    @property
    def dataset(self) -> str:
        return self.first.dataset

    @property
    def method(self) -> str:
        return self.first.method

    @property
    def share(self) -> float | None:
        share = self.first.settings.get("train_share")
        return float(share) if is_number(share) else None

    @property
    def size(self) -> str:
        return str(self.first.settings.get("size") or "")

    @property
    def percents(self) -> list[float]:
        return [run.test.percent for run in self.runs]

    @property
    def anchor(self) -> str:
        return f"run-{self.first.run_id}"

    def median(self, name: str) -> float | None:
        """Median over seeds of a measured number, as one slow machine must not set it."""
        values = sorted(value for run in self.runs if (value := run.number(name)) is not None)
        return (values[(len(values) - 1) // 2] + values[len(values) // 2]) / 2 if values else None


@dataclass(frozen=True)
class Sweep:
    """All finished runs of a sweep folder, in an order that says nothing of when they finished."""

    folder: Path
    runs: tuple[SweepRun, ...]
    groups: tuple[Group, ...]
    unfinished: tuple[str, ...]
    varying: tuple[str, ...]  # settings with several values over the sweep
    constant: Mapping[str, Any]

    @property
    def datasets(self) -> list[str]:
        return list(dict.fromkeys(group.dataset for group in self.groups))

    def of(self, dataset: str) -> list[Group]:
        return [group for group in self.groups if group.dataset == dataset]

    def students(self, dataset: str) -> list[Group]:
        return [group for group in self.of(dataset) if group.method != TEACHER]

    def teachers(self, dataset: str) -> list[Group]:
        return [group for group in self.of(dataset) if group.method == TEACHER]

    def teacher_rationales(self, run: SweepRun) -> Mapping[str, str]:
        """Example id -> rationale of the run's own teacher on the test split; {} where the teacher was no run."""
        for group in self.teachers(run.dataset):
            if group.first.settings.get("teacher") == run.settings.get("teacher"):
                return {name: text for name, (text, _) in group.first.rationales.items()}
        return {}


def is_sweep(folder: Path) -> bool:
    """Whether a folder is a sweep's rather than a run's."""
    return (folder / "experiment.toml").is_file() or any(folder.glob("runs/*/result.json"))


def read_sweep(folder: Path) -> Sweep:
    """The finished runs of a sweep; the others are named in `unfinished`.

    Raises:
      FileNotFoundError: no run of the sweep has finished yet.
      ValueError: a result.json that is not what a sweep writes, named with what is missing.
    """
    paths = sorted(path for path in (folder / "runs").glob("*") if path.is_dir())
    done = [path for path in paths if (path / "result.json").is_file()]
    if not done:
        raise FileNotFoundError(
            f"{folder}: no runs/<run>/result.json in it; give the folder of a sweep that has finished a run"
        )
    runs = sorted((_read_run(path) for path in done), key=_order)
    values = {name: _values(runs, name) for name in _setting_names(runs)}
    varying = tuple(name for name, each in values.items() if len(each) > 1)
    constant = {name: each[0] for name, each in values.items() if len(each) == 1 and each[0] is not None}
    unfinished = tuple(path.name for path in paths if path not in done)
    return Sweep(folder, tuple(runs), tuple(_groups(runs, varying)), unfinished, varying, constant)


def _values(runs: Sequence[SweepRun], name: str) -> list[Any]:
    """The distinct values of a setting; a null of a known one says that it is nothing to the run's method."""
    found = {}
    for run in runs:
        value = run.settings.get(name)
        if value is not None or (name not in SETTINGS and run.method != TEACHER):
            found.setdefault(json.dumps(value), value)
    return list(found.values())


def _read_run(folder: Path) -> SweepRun:
    path = folder / "result.json"
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
        settings = result["run"]
        settings["dataset"], settings["method"]
        test = _accuracy(result["test"], "test", result.get("step"))
        validation = _accuracy(result.get("validation"), "validation", result.get("step"))
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path}: not a sweep's result ({type(error).__name__}: {error}); remove it and run the sweep again"
        ) from error
    if test is None:
        raise ValueError(f"{path}: no test accuracy in it; remove it and run the sweep again")
    return SweepRun(folder.name, folder, settings, result, validation, test)


def _accuracy(score: Mapping[str, Any] | None, split: str, step: int | None) -> Accuracy | None:
    if not score or not score.get("num_examples"):
        return None
    return Accuracy(split, int(score["num_correct"]), int(score["num_examples"]), step)


def _setting_names(runs: Sequence[SweepRun]) -> list[str]:
    names = {name for run in runs for name in run.settings} - set(SEEDS) - set(_HIDDEN)
    return [name for name in SETTINGS if name in names] + sorted(names - set(SETTINGS))


def _order(run: SweepRun) -> tuple[Any, ...]:
    place = _ORDER.index(run.method) if run.method in _ORDER else len(_ORDER)
    parameters = run.number("parameters") or 0.0
    share = run.settings.get("train_share")
    share = float(share) if is_number(share) else 0.0
    return run.dataset, parameters, str(run.settings.get("size")), share, place, run.method, run.group_key, run.seed, run.run_id  # fmt: skip


def _groups(runs: Sequence[SweepRun], varying: Sequence[str]) -> list[Group]:
    by_key: dict[Any, list[SweepRun]] = {}
    for run in runs:
        by_key.setdefault(run.group_key, []).append(run)
    return [Group(tuple(each), _label(each[0], varying)) for each in by_key.values()]


def _label(run: SweepRun, varying: Sequence[str]) -> str:
    """'step-by-step, λ 0.5': what differs, without what the axes and cells of a comparison say already."""
    if run.method == TEACHER:
        return f"{method_name(TEACHER)} ({run.settings.get('teacher') or 'teacher'})"
    extra = [name for name in varying if name not in ("dataset", "method", "size", "train_share")]
    if run.method == "fine_tuning":  # which rationales, and how much they weigh, is nothing to it
        extra = [name for name in extra if name not in ("teacher", "rationale_weight", "pairing")]
    words = [setting_text(name, run.settings[name]) for name in extra if run.settings.get(name) is not None]
    return ", ".join([method_name(run.method), *words])


def _without_last_sentence(text: str) -> str:
    """What was decoded but for the sentence that states the label; '' where that is all."""
    return " ".join(re.split(r"(?<=[.!?])\s+", text.strip())[:-1])


def setting_text(name: str, value: Any) -> str:
    """A setting in a sentence: 'λ 0.5', 'teacher palm-540b', '50 % of the data'."""
    if name == "rationale_weight":
        return f"λ {value:g}"
    if name == "train_share":
        return f"{100 * value:g} % of the data"
    return f"{name.replace('_', ' ')} {value}"
