"""One finished run of a sweep, read back: its settings, what was measured, its answers and rationales on the test split."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from stepdistill_jax.base.methods import TEACHER
from stepdistill_jax.report.runs.folder import (
    PREDICTIONS_NAME,
    Accuracy,
    Prediction,
    is_number,
    read_json_lines,
    read_predictions,
)

SEEDS = ("seed", "subset_seed")


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
        found = {name: texts for row in self._inferred_rationales() for name, texts in [_inferred(row)]}
        for row in rows:
            text = row.get("rationale")
            if text is None and isinstance(row.get("decoded"), str):
                text = _before_the_label(row["decoded"], str(row.get("prediction") or ""))
            if isinstance(text, str):
                found.setdefault(str(row.get("example_id")), (text, str(row.get("target_rationale") or "")))
        return found

    def _inferred_rationales(self) -> list[dict[str, Any]]:
        """What `stepdistill infer RUN --task <dataset>_rationale` has written."""
        name = f"inferences/test/{self.dataset}_rationale-predict.jsonl-00000-of-00001"
        return read_json_lines(self.folder / name, []) if (self.folder / name).is_file() else []

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


def read_sweep_run(folder: Path) -> SweepRun:
    """The run in SWEEP/runs/<run_id>; ValueError if its result.json is not what a sweep writes."""
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


def _before_the_label(text: str, label: str) -> str:
    """What was decoded, without the label and the sentence that it ends: all of it where no label was found."""
    if not label:
        return text.strip()
    text = text.strip().removesuffix(label)
    return " ".join(re.split(r"(?<=[.!?])\s+", text)[:-1])


def _inferred(row: Mapping[str, Any]) -> tuple[str, tuple[str, str]]:
    """Example id -> (the run's rationale, the teacher's), of a line that `stepdistill infer` wrote."""
    texts = row.get("inputs") or {}
    return str(row.get("example_id")), (
        str(row.get("prediction", "")),
        str(texts.get("targets_pretokenized", "")),
    )
