"""What a sweep left on disk, read back: SWEEP/runs/<run_id>/result.json and the test predictions beside it."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stepdistill_jax.base.methods import METHODS, TEACHER, words_of
from stepdistill_jax.report.runs.folder import is_number
from stepdistill_jax.report.sweep.runs import SEEDS, SweepRun, read_sweep_run

# Settings of a run in the order of the tables' columns; others follow by name.
SETTINGS = ("dataset", "method", "teacher", "size", "train_share", "rationale_weight", "pairing", "prefixes")
BASELINES = tuple(name for name, method in METHODS.items() if method.is_baseline)  # the first that is there
_HIDDEN = ("gin_file",)  # `size` says it in a word
_DEFAULTS = {"rationale_weight": 1.0, "pairing": "mixture", "prefixes": "paper"}  # left out of labels
_ORDER = tuple(METHODS)


@dataclass(frozen=True)
class Group:
    """Runs that differ by their seeds only, in order of seed."""

    runs: tuple[SweepRun, ...]
    label: str  # the method, with the settings that are not the usual ones
    label_without_weight: str  # the same for a line along λ

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
    failures: Mapping[str, str]  # run id -> the last line that it printed; in no other field
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
    """The finished runs of a sweep; the others are named in `failures` and `unfinished`.

    Raises:
      FileNotFoundError: no run of the sweep has finished yet.
      ValueError: a result.json that is not what a sweep writes, named with what is missing.
    """
    paths = sorted(path for path in (folder / "runs").glob("*") if path.is_dir())
    done = [path for path in paths if (path / "result.json").is_file()]
    failures = _failures(folder, but={path.name for path in done})
    if not done:
        failed = f" ({len(failures)} failed: {folder / 'logs'} says why)" if failures else ""
        raise FileNotFoundError(
            f"{folder}: no runs/<run>/result.json in it{failed}; give the folder of a sweep that has finished a run"
        )
    runs = sorted((read_sweep_run(path) for path in done), key=_order)
    _check_no_copies(runs)
    values = {name: _values(runs, name) for name in _setting_names(runs)}
    varying = tuple(name for name, each in values.items() if len(each) > 1)
    constant = {name: each[0] for name, each in values.items() if len(each) == 1 and each[0] is not None}
    unfinished = tuple(path.name for path in paths if path not in done and path.name not in failures)
    return Sweep(folder, tuple(runs), tuple(_groups(runs, varying)), unfinished, failures, varying, constant)


def log_file(folder: Path, run_id: str) -> Path:
    """What a run of a sweep printed."""
    return folder / "logs" / f"{run_id}.log"


def failure_file(folder: Path, run_id: str) -> Path:
    """Why a run of a sweep ended without a result; there until it is begun again."""
    return folder / "logs" / f"{run_id}.failure"


def _failures(folder: Path, *, but: Collection[str]) -> dict[str, str]:
    files = sorted((folder / "logs").glob("*.failure"))
    return {file.stem: file.read_text(encoding="utf-8") for file in files if file.stem not in but}


def _check_no_copies(runs: Sequence[SweepRun]) -> None:
    """A run's folder that was copied is no second run: it would be taken for another seed.

    Raises:
      ValueError: names two folders whose settings are the same, seeds included.
    """
    known: dict[str, SweepRun] = {}
    for run in runs:
        first = known.setdefault(json.dumps(run.settings, sort_keys=True), run)
        if first is not run:
            raise ValueError(
                f"{first.folder} and {run.folder} have the same settings and seed in result.json, so one run would count twice; "
                "move the copy out of the sweep"
            )


def _values(runs: Sequence[SweepRun], name: str) -> list[Any]:
    """The distinct values of a setting; a null of a known one says that it is nothing to the run's method."""
    found = {}
    for run in runs:
        value = run.settings.get(name)
        if value is not None or (name not in SETTINGS and run.method != TEACHER):
            found.setdefault(json.dumps(value), value)
    return list(found.values())


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
    without_weight = [name for name in varying if name != "rationale_weight"]
    return [
        Group(tuple(each), _label(each[0], varying), _label(each[0], without_weight))
        for each in by_key.values()
    ]


def _label(run: SweepRun, varying: Sequence[str]) -> str:
    """'step-by-step, λ 0.5': what is unusual about it, without what the axes and cells of a comparison say already."""
    if run.method == TEACHER:
        return f"{words_of(TEACHER)} ({run.settings.get('teacher') or 'teacher'})"
    extra = [name for name in varying if name not in ("dataset", "method", "size", "train_share")]
    shown = [name for name in extra if run.settings.get(name) not in (None, _DEFAULTS.get(name))]
    words = [setting_text(name, run.settings[name]) for name in shown]
    return ", ".join([words_of(run.method), *words])


def setting_text(name: str, value: Any) -> str:
    """A setting in a sentence: 'λ 0.5', 'teacher palm-540b', '50 % of the data'."""
    if name == "rationale_weight":
        return f"λ {value:g}"
    if name == "train_share":
        return f"{100 * value:g} % of the data"
    return f"{name.replace('_', ' ')} {value}"
