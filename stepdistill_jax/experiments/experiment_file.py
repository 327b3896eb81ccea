"""Experiment files: what is compared with what, in TOML.

    title = "Table 2: multi-task against single-task"
    datasets = ["esnli", "anli", "cqa", "svamp"]                 # as tasks/ registers them
    methods = ["step_by_step", "rationale_then_label"]           # see methods.py
    teachers = ["palm-540b"]                                     # folders below DATA/<dataset>/rationales
    seeds = [0, 1, 2, 3]                                         # of parameters, order, dropout and the subset
    students = ["base"]                                          # default: every [student.NAME]

    # These have a default, and more than one value is compared, too:
    shares = [1.0]                # of the training rows, in (0, 1]; the smaller subset of a seed lies in the larger
    rationale_weights = [1.0]     # λ of Eq. 3
    pairings = ["mixture"]        # or "paired": an example's label and rationale in the same batch
    prefixes = ["paper"]          # or "code": those of the authors' code
    augmentations = ["none"]      # or "asdiv", "asdiv:0.5": (a share of) a dataset's questions as unlabelled data besides

    # The budget; [student.NAME] may have its own. What is left out is as the gin files say.
    steps = 10_000
    batch_examples = 64           # a step, in rows of their own: a step-by-step student gets two rows of each.
    # batch_rows = 16             # in its place: packed rows of as many examples as fit, the same number for every method:
    #                             # as much compute, so a step-by-step student sees half as many labels
    # batch_rows_per_task = 16    # or this: packed rows for each task, so that a step-by-step student sees as many labels
    #                             # in twice the rows, as with batch_examples
    learning_rate = 5e-5
    eval_period = 1000            # steps between looks at the validation split, by which the checkpoint is chosen
    gin = ["WARMUP_STEPS = 0"]    # any other gin bindings
    rationales = false            # whether step-by-step students also write their rationales of the test questions

    [student.base]
    gin_files = ["gin/dsbs_t5_base.gin"]

    [gin_for]                     # more bindings, of one dataset, method or student
    rationale_then_label = ["TASK_FEATURE_LENGTHS = {'inputs': 1024, 'targets': 256, 'task_ids': 256}"]

    [[also]]                      # any number of them: further runs, as the keys above say with these in their place
    methods = ["few_shot_cot"]

A run for every combination; those that differ in nothing that their method knows are one run.
"""

import dataclasses
import math
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stepdistill_jax.base.messages import nearest
from stepdistill_jax.base.methods import METHODS
from stepdistill_jax.experiments.own_experiments import find_file

PAIRINGS = ("mixture", "paired")
PREFIXES = ("paper", "code")
NO_AUGMENTATION = "none"
_BATCH = ("batch_examples", "batch_rows", "batch_rows_per_task")  # one of them
_BUDGET = ("steps", *_BATCH, "learning_rate", "eval_period")
_LISTS = {
    "datasets": str, "methods": str, "teachers": str, "seeds": int, "students": str, "shares": float,
    "rationale_weights": float, "pairings": str, "prefixes": str, "augmentations": str,
}  # fmt: skip
_DEFAULTS: dict[str, Any] = {
    "teachers": [],
    "shares": [1.0],
    "rationale_weights": [1.0],
    "pairings": ["mixture"],
    "prefixes": ["paper"],
    "augmentations": [NO_AUGMENTATION],
    "gin": [],
    "gin_for": {},
    "rationales": False,
}
_KEYS = ("title", *_LISTS, *_BUDGET, "gin", "gin_for", "rationales")
_STUDENT_KEYS = ("gin_files", *_BUDGET, "gin")


@dataclasses.dataclass(frozen=True)
class Student:
    """A size of student.

    Attributes:
      name: as results have it.
      gin_files: that make a run of it, as `--gin_file` takes them.
      settings: the experiment's budget with the student's own in its place.
      gin: more bindings.
    """

    name: str
    gin_files: tuple[str, ...]
    settings: Mapping[str, float]
    gin: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """A dataset whose questions, with the teacher's labels, are trained on besides; `share` of them."""

    dataset: str
    share: float

    def __str__(self) -> str:
        return self.dataset if self.share == 1.0 else f"{self.dataset}:{self.share:g}"


@dataclasses.dataclass(frozen=True)
class Grid:
    """Values whose combinations are runs; see the module for what each is."""

    datasets: tuple[str, ...]
    methods: tuple[str, ...]
    teachers: tuple[str, ...]
    students: tuple[Student, ...]
    shares: tuple[float, ...]
    rationale_weights: tuple[float, ...]
    pairings: tuple[str, ...]
    prefixes: tuple[str, ...]
    augmentations: tuple[Augmentation | None, ...]
    seeds: tuple[int, ...]
    rationales: bool
    gin_for: Mapping[str, tuple[str, ...]]


@dataclasses.dataclass(frozen=True)
class Experiment:
    """What an experiment file says; `text` is the file."""

    path: Path
    text: str
    title: str
    grids: tuple[Grid, ...]


def read_experiment(path: Path) -> Experiment:
    """Reads and checks an experiment file: that of the path, else the package's own of that name.

    Raises:
      FileNotFoundError: if it is not there.
      ValueError: one line that names file, key and value, and what would be right.
    """
    path = find_file(path)
    text = path.read_text(encoding="utf-8")
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path}: not TOML: {error}.") from error
    reader = _Reader(path)
    return Experiment(path, text, table.get("title", path.stem), reader.grids(table))


@dataclasses.dataclass(frozen=True)
class _Reader:
    path: Path

    def grids(self, table: dict[str, Any]) -> tuple[Grid, ...]:
        students = table.pop("student", {})
        also = table.pop("also", [])
        if not isinstance(students, dict) or not all(isinstance(one, dict) for one in students.values()):
            raise self._error(f"student={students!r}; write [student.NAME] with gin_files.")
        if not isinstance(also, list) or not all(isinstance(one, dict) for one in also):
            raise self._error("also: write each as [[also]], with two brackets.")
        self._check_keys(table, _KEYS, "")
        for name, own in students.items():
            self._check_keys(own, _STUDENT_KEYS, f"[student.{name}] ")
        for own in also:
            self._check_keys(own, _KEYS, "[[also]] ")
        return tuple(self._grid({**_DEFAULTS, **table, **own}, students) for own in ({}, *also))

    def _grid(self, table: dict[str, Any], students: Mapping[str, Any]) -> Grid:
        table.setdefault("students", list(students))
        lists = {key: self._list(table, key, kind) for key, kind in _LISTS.items() if key != "teachers"}
        teachers = self._list(table, "teachers", str) if table["teachers"] else ()
        self._check_names("methods", lists["methods"], METHODS)
        self._check_names("datasets", lists["datasets"], _dataset_names())
        self._check_names("students", lists["students"], students)
        self._check_names("pairings", lists["pairings"], PAIRINGS)
        self._check_names("prefixes", lists["prefixes"], PREFIXES)
        for key in ("shares", "rationale_weights"):
            self._check_numbers(key, lists[key])
        for teacher in teachers:
            if not re.fullmatch(r"[\w.+-]+", teacher):
                raise self._error(
                    f"teachers: {teacher!r} is not the name of a folder below DATA/<dataset>/rationales."
                )
        if not teachers and (untaught := [name for name in lists["methods"] if METHODS[name].needs_teacher]):
            raise self._error(f"methods has {untaught[0]!r}, which needs a teacher: add teachers = ['…'].")
        if not isinstance(table["rationales"], bool):
            raise self._error(f"rationales={table['rationales']!r}; use true or false.")
        if any(seed < 0 for seed in lists["seeds"]):
            raise self._error(f"seeds={list(lists['seeds'])}; use whole numbers from 0.")
        gin_for = {
            name: self._gin(lines, f"gin_for.{name}") for name, lines in dict(table["gin_for"]).items()
        }
        self._check_names("gin_for", gin_for, [*_dataset_names(), *METHODS, *students])
        return Grid(
            **{key: values for key, values in lists.items() if key not in ("students", "augmentations")},
            teachers=teachers,
            students=tuple(self._student(name, students[name], table) for name in lists["students"]),
            augmentations=tuple(self._augmentation(text) for text in lists["augmentations"]),
            rationales=table["rationales"],
            gin_for=gin_for,
        )

    def _student(self, name: str, own: Mapping[str, Any], table: Mapping[str, Any]) -> Student:
        place = f"[student.{name}] "
        gin_files = self._list(own, "gin_files", str, place) if "gin_files" in own else ()
        if not gin_files:
            raise self._error(
                f"{place}has no gin_files; give those of a run, such as ['gin/dsbs_t5_base.gin']."
            )
        for file in gin_files:
            _check_gin_file(file, f"{self.path}: {place}gin_files")
        settings = {key: {**table, **own}[key] for key in _BUDGET if key in table or key in own}
        # The student's own way of saying the batch takes the place of the experiment's.
        said = [key for key in _BATCH if key in settings]
        if len(said) > 1:
            chosen = [key for key in _BATCH if key in own]
            if len(chosen) != 1:
                raise self._error(f"{place}has {' and '.join(chosen or said)}; keep one of them.")
            for key in set(said) - set(chosen):
                settings.pop(key)
        for key, value in settings.items():
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or value <= 0 or (key != "learning_rate" and not isinstance(value, int)):
                kind = "a number" if key == "learning_rate" else "a whole number"
                raise self._error(f"{place if key in own else ''}{key}={value!r}; use {kind} above 0.")
        gin = (*self._gin(table["gin"], "gin"), *self._gin(own.get("gin", []), f"{place}gin"))
        return Student(name, gin_files, settings, gin)

    def _list(self, table: Mapping[str, Any], key: str, kind: type, place: str = "") -> tuple[Any, ...]:
        if key not in table:
            raise self._error(f"{place}{key} is missing; it is a list of what to compare.")
        values = table[key]
        right = (int, float) if kind is float else kind
        if not isinstance(values, list) or any(
            not isinstance(v, right) or isinstance(v, bool) for v in values
        ):
            said = {str: "texts", int: "whole numbers", float: "numbers"}[kind]
            raise self._error(f"{place}{key}={values!r}; use a list of {said}.")
        if not values:
            raise self._error(f"{place}{key} is empty, so nothing would be run; give it a value.")
        return tuple(dict.fromkeys(kind(value) for value in values))

    def _gin(self, lines: Any, key: str) -> tuple[str, ...]:
        if not isinstance(lines, list) or any(not isinstance(line, str) or "=" not in line for line in lines):
            raise self._error(f"{key}={lines!r}; use a list of bindings such as 'NAME = VALUE'.")
        return tuple(lines)

    def _augmentation(self, text: str) -> Augmentation | None:
        if text == NO_AUGMENTATION:
            return None
        name, _, share = text.partition(":")
        self._check_names("augmentations", [name], _dataset_names())
        try:
            number = float(share or 1.0)
        except ValueError as error:
            raise self._error(f"augmentations: {text!r}; write 'none', 'asdiv' or 'asdiv:0.5'.") from error
        self._check_numbers("shares", [number])
        return Augmentation(name, number)

    def _check_keys(self, table: Mapping[str, Any], known: Sequence[str], place: str) -> None:
        for key in table:
            if key not in known:
                raise self._error(f"{place}has no key '{key}'{nearest(key, known)}.")

    def _check_names(self, key: str, names: Any, known: Any) -> None:
        for name in names:
            if name not in known:
                raise self._error(f"{key}: no '{name}'{nearest(name, list(known))}.")

    def _check_numbers(self, key: str, values: Sequence[float]) -> None:
        for value in values:
            if key == "shares" and not 0.0 < value <= 1.0:
                raise self._error(
                    f"shares: {value:g} is not above 0 and at most 1, the whole training split."
                )
            if not math.isfinite(value) or value < 0.0:
                raise self._error(f"{key}: {value:g}; use 0 or more.")

    def _error(self, message: str) -> ValueError:
        return ValueError(f"{self.path}: {message}")


def _dataset_names() -> list[str]:
    from stepdistill_jax import datasets
    from stepdistill_jax.launching import task_modules

    task_modules.load_tasks()
    return datasets.names()


def _check_gin_file(file: str, place: str) -> None:
    """Looks where a launcher will: here, then where our gin/ lies."""
    from stepdistill_jax.engine.config import gin_utils

    roots = [Path(), *map(Path, gin_utils.default_search_paths())]
    if not any((root / file).is_file() for root in roots):
        runs = sorted({f"gin/{path.name}" for root in roots for path in (root / "gin").glob("dsbs_*.gin")})
        raise ValueError(f"{place}: no file '{file}'{nearest(file, runs)}.")
