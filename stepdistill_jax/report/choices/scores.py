"""Numbers about scored choices: each class, what is taken for what, calibration, and what abstaining buys."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stepdistill_jax.base.intervals import wilson_interval
from stepdistill_jax.prediction import calibration
from stepdistill_jax.report.choices.reading import Answer, ScoredChoices


@dataclass(frozen=True)
class ClassScore:
    """One label: how often it is gold, predicted, and both."""

    label: str
    num_gold: int
    num_predicted: int
    num_correct: int

    @property
    def precision(self) -> float | None:
        """Percent of its predictions that are right; None if it is never predicted."""
        return 100.0 * self.num_correct / self.num_predicted if self.num_predicted else None

    @property
    def recall(self) -> float | None:
        """Percent of its examples that are found; None if there is none."""
        return 100.0 * self.num_correct / self.num_gold if self.num_gold else None

    @property
    def f1(self) -> float | None:
        """Harmonic mean of both, in percent; None if there is neither an example nor a prediction."""
        both = self.num_gold + self.num_predicted
        return 200.0 * self.num_correct / both if both else None

    @property
    def recall_interval(self) -> tuple[float, float] | None:
        """Wilson's 95 % interval, in percent."""
        return wilson_interval(self.num_correct, self.num_gold) if self.num_gold else None

    @property
    def precision_interval(self) -> tuple[float, float] | None:
        """Wilson's 95 % interval, in percent."""
        return wilson_interval(self.num_correct, self.num_predicted) if self.num_predicted else None


def labels_of(scored: ScoredChoices) -> list[str]:
    """The choices, and behind them gold labels that are none of them, in order of name."""
    return [*scored.choices, *sorted({answer.label for answer in scored.answers} - set(scored.choices))]


def class_scores(scored: ScoredChoices) -> list[ClassScore]:
    """A score for each label, in the order of `labels_of`."""
    gold = Counter(answer.label for answer in scored.answers)
    predicted = Counter(answer.predicted for answer in scored.answers)
    correct = Counter(answer.label for answer in scored.answers if answer.correct)
    return [ClassScore(label, gold[label], predicted[label], correct[label]) for label in labels_of(scored)]


def confusion(scored: ScoredChoices) -> list[list[int]]:
    """[gold][predicted] -> examples, both in the order of `labels_of`."""
    pairs = Counter((answer.label, answer.predicted) for answer in scored.answers)
    labels = labels_of(scored)
    return [[pairs[gold, predicted] for predicted in labels] for gold in labels]


@dataclass(frozen=True)
class Bin:
    """Answers of about the same probability, and how many of them are right."""

    mean_probability: float
    num_correct: int
    num_examples: int

    @property
    def accuracy(self) -> float:
        """In [0, 1]."""
        return self.num_correct / self.num_examples


def reliability(confidences: Sequence[tuple[float, bool]]) -> list[Bin]:
    """The bins of `calibration_error` that hold an answer. confidences: (probability of the prediction, right?)."""
    bins: dict[int, list[tuple[float, bool]]] = {}
    places = calibration.bins_of(np.array([probability for probability, _ in confidences]))
    for place, answer in zip(places, confidences, strict=True):
        bins.setdefault(int(place), []).append(answer)
    return [
        Bin(sum(p for p, _ in each) / len(each), sum(right for _, right in each), len(each))
        for _, each in sorted(bins.items())
    ]


def expected_calibration_error(confidences: Sequence[tuple[float, bool]]) -> float:
    """`calibration_error` of (probability of the prediction, right?); in [0, 1], 0 is best."""
    probabilities, correct = zip(*confidences, strict=True)
    return calibration.calibration_error(np.array(probabilities), np.array(correct))


def calibrated(scored: ScoredChoices) -> list[tuple[float, bool]]:
    """(probability, right?) of every answer, as it was given."""
    return [(answer.probability, answer.correct) for answer in scored.answers]


def uncalibrated(scored: ScoredChoices) -> list[tuple[float, bool]]:
    """The same without the temperature: p ** T, normalised, as p is the softmax of scores / T."""
    return [(_without(answer.probabilities, scored.temperature), answer.correct) for answer in scored.answers]


def _without(probabilities: Sequence[float], temperature: float) -> float:
    logs = [temperature * math.log(max(p, 1e-300)) for p in probabilities]
    highest = max(logs)
    return 1.0 / sum(math.exp(value - highest) for value in logs)


@dataclass(frozen=True)
class Coverage:
    """What is left where answers below `threshold` are withheld."""

    threshold: float
    num_correct: int
    num_answered: int
    num_examples: int

    @property
    def percent_answered(self) -> float:
        return 100.0 * self.num_answered / self.num_examples

    @property
    def percent_right(self) -> float:
        return 100.0 * self.num_correct / self.num_answered


def coverage(scored: ScoredChoices) -> list[Coverage]:
    """From the most probable answer alone to all of them; answers of equal probability come together."""
    answers = sorted(scored.answers, key=lambda answer: -answer.probability)
    points, num_correct = [], 0
    for place, answer in enumerate(answers, start=1):
        num_correct += answer.correct
        if place == len(answers) or answers[place].probability < answer.probability:
            points.append(Coverage(answer.probability, num_correct, place, len(answers)))
    return points


def confident_mistakes(scored: ScoredChoices, most: int) -> list[Answer]:
    """The wrong answers of the highest probability, the highest first."""
    wrong = [answer for answer in scored.answers if not answer.correct]
    return sorted(wrong, key=lambda answer: (-answer.probability, answer.example_id))[:most]
