"""Temperatures, and how far confidence is from accuracy."""

import json

import numpy as np
import pytest

from stepdistill_jax.prediction import calibration


def drawn(temperature, num_examples=4000):
    """(log-probabilities that are too sharp by this factor, gold choices drawn from what they should be)."""
    rng = np.random.default_rng(0)
    true = rng.normal(size=(num_examples, 4))
    gold = np.array([rng.choice(4, p=row) for row in calibration.probabilities_of(true)])
    return (true * temperature).astype(np.float32), gold


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_is_found_that_the_labels_were_drawn_with(temperature):
    log_probs, gold = drawn(temperature)
    found = calibration.calibrate(log_probs, gold, content="c", step=5)
    assert found.temperature == pytest.approx(temperature, rel=0.1)
    assert found.ece_after < 0.03
    assert found.ece_after <= found.ece_before + 0.005
    assert found.accuracy == np.mean(log_probs.argmax(axis=1) == gold)
    assert (found.num_examples, found.content, found.step) == (4000, "c", 5)


def test_a_small_split_that_is_all_right_does_not_end_all_doubt():
    log_probs = np.log(np.array([[0.7, 0.3]] * 10))
    temperature = calibration.fit_temperature(log_probs, np.zeros(10, int))
    probability = calibration.probabilities_of(log_probs, temperature)[0, 0]
    assert probability == pytest.approx(11 / 12, abs=1e-3)  # Platt's target


def test_the_calibration_error_is_that_of_a_hand_made_example():
    # Two bins: confidence 0.9 with 1 of 2 right, and 0.6 with 2 of 2 right: (2 · 0.4 + 2 · 0.4) / 4.
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.6, 0.4]])
    assert calibration.expected_calibration_error(probabilities, np.array([0, 1, 0, 0])) == pytest.approx(0.4)


def test_probabilities_add_up_to_one_however_far_apart_the_scores_are():
    probabilities = calibration.probabilities_of(np.array([[-2000.0, 0.0, -1.0], [0.0, 0.0, 0.0]]))
    assert np.isfinite(probabilities).all()
    assert probabilities.sum(axis=1) == pytest.approx([1.0, 1.0], abs=1e-12)


def test_it_is_read_back_and_damage_is_named(tmp_path):
    assert calibration.read_calibration(tmp_path) is None
    written = calibration.Calibration(1.5, 0.1, 0.05, 200, 0.9, "abc", 30)
    calibration.write_calibration(tmp_path, written)
    assert calibration.read_calibration(tmp_path) == written
    said = json.loads((tmp_path / "calibration.json").read_text())
    (tmp_path / "calibration.json").write_text(json.dumps({**said, "temperature": 0.0}))
    with pytest.raises(ValueError, match=r"calibration\.json is damaged.*stepdistill eval"):
        calibration.read_calibration(tmp_path)
