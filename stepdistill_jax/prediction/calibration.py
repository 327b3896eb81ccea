"""Whether probabilities mean what they say: a temperature measured on validation, and the calibration error before and after.

A network trained to the end is surer than it is right. Dividing its log-probabilities by one number, the temperature, mends most of
that and changes no label (Guo et al. 2017, arXiv:1706.04599).
"""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import optimize, special

from stepdistill_jax.base.whole_files import write_atomically

CALIBRATION = "calibration.json"
NUM_BINS = 15  # of the expected calibration error, as in Guo et al.
_TEMPERATURES = (0.05, 20.0)


@dataclasses.dataclass(frozen=True)
class Calibration:
    """What RUN/calibration.json says.

    Attributes:
      temperature: that log-probabilities are divided by.
      ece_before, ece_after: expected calibration error, in [0, 1], at temperature 1 and at this one. Both are of the examples
        that the temperature was measured on.
      num_examples: of the validation split that have a label.
      accuracy: of the most likely choice on them, in [0, 1].
      content: identity of that split, by its sha256; '' where it is not known.
      step: of the checkpoint.
    """

    temperature: float
    ece_before: float
    ece_after: float
    num_examples: int
    accuracy: float
    content: str
    step: int


def probabilities_of(
    log_probs: Float[np.ndarray, "rows choices"], temperature: float = 1.0
) -> Float[np.ndarray, "rows choices"]:
    """Softmax over the choices, float64: each row adds up to 1."""
    return special.softmax(np.asarray(log_probs, np.float64) / temperature, axis=-1)


def fit_temperature(log_probs: Float[np.ndarray, "rows choices"], gold: Int[np.ndarray, " rows"]) -> float:
    """The temperature in [0.05, 20] under which the gold choices are most likely.

    Targets are smoothed by 1 / (rows + 2), as Platt (1999) does, so that a small split that is all right does not make a student
    that is never in doubt.
    """
    rows, choices = log_probs.shape
    smoothing = 1 / (rows + 2)
    targets = np.full([rows, choices], smoothing / max(choices - 1, 1))
    targets[np.arange(rows), gold] = 1 - smoothing

    def loss(log_temperature: float) -> float:
        return -np.sum(targets * special.log_softmax(log_probs / np.exp(log_temperature), axis=-1)) / rows

    log_probs = np.asarray(log_probs, np.float64)
    best = optimize.minimize_scalar(loss, bounds=np.log(_TEMPERATURES), method="bounded")
    return float(np.exp(best.x))


def expected_calibration_error(
    probabilities: Float[np.ndarray, "rows choices"], gold: Int[np.ndarray, " rows"]
) -> float:
    """`calibration_error` of the most likely choice; a gold choice of -1 is none of them, and never met."""
    return calibration_error(probabilities.max(axis=1), probabilities.argmax(axis=1) == gold)


def calibration_error(confidence: Float[np.ndarray, " rows"], is_right: Bool[np.ndarray, " rows"]) -> float:
    """How far confidence is from accuracy, on average over examples in 15 equal bins of confidence; in [0, 1].

    Guo et al. 2017, Eq. 3.
    """
    gaps = np.bincount(bins_of(confidence), weights=confidence - is_right, minlength=NUM_BINS)
    return float(np.abs(gaps).sum() / len(confidence))


def bins_of(confidence: Float[np.ndarray, " rows"]) -> Int[np.ndarray, " rows"]:
    """The bin of each, 0 to 14; 1.0 falls into the last."""
    return np.minimum((confidence * NUM_BINS).astype(int), NUM_BINS - 1)


def calibrate(
    log_probs: Float[np.ndarray, "rows choices"], gold: Int[np.ndarray, " rows"], *, content: str, step: int
) -> Calibration:
    """The calibration of a checkpoint from a split's log-probabilities, at least one row of them."""
    temperature = fit_temperature(log_probs, gold)
    return Calibration(
        temperature=temperature,
        ece_before=expected_calibration_error(probabilities_of(log_probs), gold),
        ece_after=expected_calibration_error(probabilities_of(log_probs, temperature), gold),
        num_examples=len(gold),
        accuracy=float(np.mean(log_probs.argmax(axis=1) == gold)),
        content=content,
        step=step,
    )


def write_calibration(folder: Path, calibration: Calibration) -> None:
    """Writes FOLDER/calibration.json, whole or not at all."""
    write_atomically(folder / CALIBRATION, json.dumps(dataclasses.asdict(calibration), indent=2) + "\n")


def read_calibration(folder: Path) -> Calibration | None:
    """What FOLDER/calibration.json says; None where there is none.

    Raises:
      ValueError: if it is damaged.
    """
    path = folder / CALIBRATION
    try:
        said: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        calibration = Calibration(**said)
        if not 0 < calibration.temperature < float("inf"):
            raise ValueError(f"temperature {calibration.temperature}")
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"{path} is damaged ({error!r}); take it away, and `stepdistill eval {folder}` writes it again."
        ) from error
    return calibration
