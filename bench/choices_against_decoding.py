"""Choices by their probabilities against answers that are decoded: accuracy, answers outside the choices, calibration, speed.

    python bench/choices_against_decoding.py RUN [--split test] [--data_dir DATA]

RUN is of a dataset with choices, such as e-SNLI. Both ways read the same checkpoint on the same examples. The temperature is measured
on the validation split; calibration errors are those of --split, which it has not seen.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from stepdistill_jax.base.intervals import wilson_interval
from stepdistill_jax.datasets import read_examples
from stepdistill_jax.launching import task_modules
from stepdistill_jax.prediction import calibration
from stepdistill_jax.prediction.predictor import Predictor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--split", default="test")
    parser.add_argument("--data_dir", type=Path)
    args = parser.parse_args()
    task_modules.load_descriptions()
    predictor = Predictor(args.run)
    name = predictor.student.description.dataset["name"]
    validation, test = (
        [example for example in read_examples(name, split, args.data_dir) if example.label is not None]
        for split in ("validation", args.split)
    )
    texts, labels = [example.inputs for example in test], [example.label for example in test]
    scored, scoring_seconds = _timed(_scored, predictor, texts)
    decoded, decoding_seconds = _timed(_decoded, predictor, texts)

    print(f"{args.run}: step {predictor.student.step}, {name}/{args.split}, {len(test):,} examples")
    for what, answers, seconds in (
        ("choices", scored, scoring_seconds),
        ("decoding", decoded, decoding_seconds),
    ):
        right = sum(answer == label for answer, label in zip(answers, labels, strict=True))
        outside = sum(answer not in predictor.choices for answer in answers)
        low, high = wilson_interval(right, len(test))
        print(
            f"  {what:9} {100 * right / len(test):6.2f} % right ({low:.2f} to {high:.2f}), {outside:,} answers outside the choices, "
            f"{len(test) / seconds:,.0f} labels/s"
        )
    pairs = list(zip(scored, decoded, labels, strict=True))
    only_scored = sum(one == label != two for one, two, label in pairs)
    only_decoded = sum(two == label != one for one, two, label in pairs)
    print(f"  right by choices alone {only_scored:,}, by decoding alone {only_decoded:,}")

    measured = calibration.calibrate(*_scores(predictor, validation), content="", step=predictor.student.step)
    log_probs, gold = _scores(predictor, test)
    before, after = (
        calibration.expected_calibration_error(calibration.probabilities_of(log_probs, temperature), gold)
        for temperature in (1.0, measured.temperature)
    )
    print(
        f"  temperature {measured.temperature:.3f} from {measured.num_examples:,} validation examples; expected calibration error there "
        f"{measured.ece_before:.4f} -> {measured.ece_after:.4f}, on {args.split} {before:.4f} -> {after:.4f}"
    )


def _timed(
    answer: Callable[[Predictor, list[str]], list[str]], predictor: Predictor, texts: list[str]
) -> tuple[list[str], float]:
    """(answers, seconds), after a first go that compiles."""
    answer(predictor, texts)
    begin = time.perf_counter()
    answers = answer(predictor, texts)
    return answers, time.perf_counter() - begin


def _scored(predictor: Predictor, texts: list[str]) -> list[str]:
    return [prediction.label for prediction in predictor(texts)]


def _decoded(predictor: Predictor, texts: list[str]) -> list[str]:
    student, room = predictor.student, predictor.max_input_tokens - 1
    encoded = student.vocabulary.encode_all([student.description.label_prefix + text for text in texts])
    rows = [[*tokens[:room], student.vocabulary.eos_id] for tokens in encoded]
    return [student.vocabulary.decode(each.tokens).strip() for each in student.network.write(rows)]


def _scores(predictor: Predictor, examples: list) -> tuple[np.ndarray, np.ndarray]:
    """(log-probabilities of the choices, the gold choice) of each example."""
    gold = np.array([predictor.choices.index(example.label) for example in examples])
    return predictor.log_probs([example.inputs for example in examples]), gold


if __name__ == "__main__":
    main()
