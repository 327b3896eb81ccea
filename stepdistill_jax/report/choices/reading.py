"""The scored choices that an evaluation left in a run's folder, read back.

RUN/predictions/choices-<split>-<step>.jsonl has an object of `choices`, `temperature` and the data's identity first, then one an
example.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_NAME = re.compile(r"choices-(?P<split>train|validation|test)-(?P<step>\d+)\.jsonl")
_SPLITS = ("test", "validation", "train")  # the first that is there is shown


@dataclass(frozen=True)
class Answer:
    """One example: its gold label, and the probability of each choice, in the order of choices."""

    example_id: str
    inputs: str
    label: str
    predicted: str
    probabilities: tuple[float, ...]

    @property
    def probability(self) -> float:
        """Of what is predicted."""
        return max(self.probabilities)

    @property
    def correct(self) -> bool:
        return self.label == self.predicted


@dataclass(frozen=True)
class ScoredChoices:
    """A split's answers at one step; `temperature` divides the scores that the probabilities are made of."""

    split: str
    step: int
    choices: tuple[str, ...]
    temperature: float
    answers: tuple[Answer, ...]


def read_choices(run: Path) -> ScoredChoices | None:
    """The newest scored choices of the test split, else of validation, else of train; None if there are none.

    Raises:
      ValueError: a line is not what an evaluation writes; file and line are named.
    """
    found = {}
    for path in run.glob("predictions/choices-*.jsonl"):
        if match := _NAME.fullmatch(path.name):
            found.setdefault(match["split"], []).append((int(match["step"]), path))
    for split in _SPLITS:
        if split in found:
            step, path = max(found[split])
            return _read(path, split, step)
    return None


def _read(path: Path, split: str, step: int) -> ScoredChoices:
    head: dict[str, Any] = {}
    answers: dict[str, Answer] = {}
    for number, line in enumerate(_lines(path), start=1):
        try:
            row = json.loads(line)
            if "example_id" not in row:
                head |= row
                continue
            answer = _answer(row, tuple(head["choices"]))
        except (json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{path}:{number}: not a line of scored choices ({error}); evaluate the run again"
            ) from error
        answers.setdefault(answer.example_id, answer)
    temperature = float(head.get("temperature", 1.0))
    return ScoredChoices(split, step, tuple(head.get("choices", ())), temperature, tuple(answers.values()))


def _lines(path: Path) -> list[str]:
    """Divided by "\n" alone: a text may hold what Unicode calls a line's end."""
    return path.read_text(encoding="utf-8").removesuffix("\n").split("\n")


def _answer(row: Mapping[str, Any], choices: tuple[str, ...]) -> Answer:
    probabilities = tuple(float(value) for value in row["probabilities"])
    if len(probabilities) != len(choices) or not all(map(math.isfinite, probabilities)):
        raise ValueError(f"{len(probabilities)} probabilities of {len(choices)} choices")
    texts = [str(row[name]) for name in ("example_id", "inputs", "label", "predicted")]
    return Answer(*texts, probabilities)
