"""The checkpoint is chosen by the validation split; the test split has no say."""

import pytest

from stepdistill_jax.experiments.choice import best_on_validation


def row(step, correct, split="validation", total=10):
    return {
        "step": step,
        "split": split,
        "num_correct": correct,
        "num_examples": total,
        "accuracy": 10.0 * correct,
    }


def test_the_best_on_validation_is_chosen_and_of_equals_the_earlier():
    rows = [
        row(1, 3),
        row(2, 5),
        row(2, 10, split="test"),
        row(3, 5),
        {"step": 3, "split": "validation", "loss": 0.1},
    ]
    assert best_on_validation(rows)["step"] == 2
    assert best_on_validation(rows[::-1])["step"] == 2


def test_a_run_without_validation_is_refused():
    with pytest.raises(ValueError, match="No accuracy on 'validation'"):
        best_on_validation([row(1, 3, split="test")])
