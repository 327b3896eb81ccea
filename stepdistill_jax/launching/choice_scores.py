"""How likely a run's student finds each choice, over a split: what a report draws, and what calibrates its probabilities.

RUN/predictions/choices-<split>-<step>.jsonl    first {"choices", "temperature", "content", …}, then an example a line
RUN/calibration.json                            the temperature, measured on the validation split
"""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from stepdistill_jax.base.environment import set_for_a_while
from stepdistill_jax.base.intervals import wilson_interval
from stepdistill_jax.base.messages import say_once
from stepdistill_jax.base.visible import visible
from stepdistill_jax.base.whole_files import whole_file
from stepdistill_jax.datasets import Example, record_io, stream_examples
from stepdistill_jax.datasets.lineage.indexes import split_index
from stepdistill_jax.datasets.preparation import examples_folder
from stepdistill_jax.prediction import calibration
from stepdistill_jax.prediction.description import STUDENT, StudentDescription, read_description
from stepdistill_jax.prediction.predictor import Predictor

_VALIDATION = "validation"
_PORTION = 4096  # examples that are scored together
_RATIONALE_AS_INPUT = "rationale_as_input"


def scores_choices(run: Path) -> bool:
    """Whether the run's student has choices, which questions alone tell apart."""
    if not (run / STUDENT).is_file():
        return False
    description = read_description(run)
    return bool(description.scored_choices) and description.method != _RATIONALE_AS_INPUT


def evaluate_choices(
    run: Path,
    split: str,
    *,
    step: int | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    num_partitions: int = 1,
    verify: bool = True,
) -> None:
    """Calibrates the checkpoint, and writes the choices' probabilities for the split, and for validation.

    Standard error says accuracy and calibration error of each.
    """
    predictor = Predictor(run, step=step, num_partitions=num_partitions, verify=verify)
    name = predictor.student.description.dataset["name"]
    with set_for_a_while(STEPDISTILL_DATA_DIR=data_dir):
        for each in dict.fromkeys((_VALIDATION, split)) if _has(name, _VALIDATION) else (split,):
            examples = _labelled(name, each)
            if not examples:
                say_once(f"{name}/{each}: no example with a label; no choices are scored.")
                continue
            log_probs = _log_probs(predictor, examples, each)
            content = _content(name, each)
            if each == _VALIDATION:
                _calibrate(predictor, examples, log_probs, content)
            _write(predictor, each, examples, log_probs, content)


def calibrate_if_possible(predictor: Predictor, *, data_dir: str | os.PathLike[str] | None = None) -> None:
    """Calibrates a run's student that is not yet, if the validation split that it was trained beside is here."""
    student = predictor.student
    description, folder = student.description, student.folder
    if student.is_calibrated or not scores_choices(folder):
        return
    with set_for_a_while(STEPDISTILL_DATA_DIR=data_dir):
        _calibrate_here(predictor, description, folder)


def _calibrate_here(predictor: Predictor, description: StudentDescription, folder: Path) -> None:
    name = description.dataset["name"]
    if not _has(name, _VALIDATION):
        say_once(
            f"{folder}: probabilities are not calibrated, as {name}'s validation split is not here; `stepdistill eval {folder}` "
            "calibrates them, where the data are."
        )
        return
    content = _content(name, _VALIDATION)
    known = description.content.get(f"{name}/examples/{_VALIDATION}", {}).get("sha256", content)
    if known != content:
        say_once(
            f"{folder}: probabilities are not calibrated, as {name}'s validation split is not the one it was trained beside "
            f"({content[:12]}, not {known[:12]})."
        )
        return
    examples = _labelled(name, _VALIDATION)
    if not examples:
        say_once(f"{folder}: probabilities are not calibrated: {name}/{_VALIDATION} has no labels.")
        return
    _calibrate(predictor, examples, _log_probs(predictor, examples, "calibrate"), content)


def _has(name: str, split: str) -> bool:
    manifest = record_io.read_manifest(examples_folder(name))
    return manifest is not None and split in manifest["counts"]


def _content(name: str, split: str) -> str:
    return split_index(examples_folder(name), split).identity.sha256


def _labelled(name: str, split: str) -> list[Example]:
    """The split's examples that have a label."""
    return [example for example in stream_examples(name, split) if example.label is not None]


def _log_probs(predictor: Predictor, examples: Sequence[Example], what: str) -> np.ndarray:
    """float32 [examples, choices]."""
    scores = []
    with tqdm(total=len(examples), unit=" examples", desc=what, disable=None) as progress:
        for start in range(0, len(examples), _PORTION):
            portion = examples[start : start + _PORTION]
            scores.append(predictor.log_probs([example.inputs for example in portion]))
            progress.update(len(portion))
    return np.concatenate(scores)


def _calibrate(
    predictor: Predictor, examples: Sequence[Example], log_probs: np.ndarray, content: str
) -> None:
    """Measures the temperature, writes it into the run, and uses it from now on."""
    place = {choice: number for number, choice in enumerate(predictor.choices)}
    known = [number for number, example in enumerate(examples) if example.label in place]
    if len(known) < len(examples):
        say_once(
            f"{len(examples) - len(known):,} validation examples have a label that is none of the choices; they do not count for "
            "the calibration."
        )
    if not known:
        return
    measured = calibration.calibrate(
        log_probs[known],
        np.array([place[examples[number].label] for number in known]),
        content=content,
        step=predictor.student.step,
    )
    calibration.write_calibration(predictor.student.folder, measured)
    predictor.use(measured)
    say_once(
        f"{predictor.student.folder}: calibrated at step {measured.step} on {measured.num_examples:,} validation examples: temperature "
        f"{measured.temperature:.3g}, expected calibration error {measured.ece_before:.3f} -> {measured.ece_after:.3f}."
    )


def _write(
    predictor: Predictor, split: str, examples: Sequence[Example], log_probs: np.ndarray, content: str
) -> None:
    """The file of a split, and its accuracy on standard error."""
    student, choices = predictor.student, predictor.choices
    probabilities = calibration.probabilities_of(log_probs, student.temperature)
    best = probabilities.argmax(axis=1)
    head = {
        "choices": list(choices),
        "temperature": student.temperature,
        "split": split,
        "step": student.step,
        "content": content,
        "num_examples": len(examples),
    }
    path = student.folder / "predictions" / f"choices-{split}-{student.step}.jsonl"
    with whole_file(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        file.write(_line(head))
        for example, values, number in zip(examples, probabilities, best, strict=True):
            file.write(
                _line(
                    {
                        "example_id": example.example_id,
                        "inputs": example.inputs,
                        "label": example.label,
                        "predicted": choices[number],
                        "probability": _rounded(values[number]),
                        "probabilities": [_rounded(value) for value in values],
                    }
                )
            )
    num_right = sum(choices[number] == example.label for example, number in zip(examples, best, strict=True))
    low, high = wilson_interval(num_right, len(examples))
    print(
        visible(
            f"{student.description.task} {split} at step {student.step}: most likely choice right {100 * num_right / len(examples):.2f} % "
            f"({num_right} of {len(examples)}; 95 % interval {low:.1f} to {high:.1f})"
        ),
        file=sys.stderr,
    )


def _line(row: dict[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False) + "\n"


def _rounded(probability: float) -> float:
    """Eight digits, however small it is."""
    return float(f"{probability:.8g}")
