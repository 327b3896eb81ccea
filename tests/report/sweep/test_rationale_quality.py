"""Rationales are scored against the teacher's, and by where they end."""

import pytest
from small_sweep import make_sweep, make_sweep_run

from stepdistill_jax.report.sweep.folder import read_sweep
from stepdistill_jax.report.sweep.rationale_quality import rationale_quality, supports


@pytest.mark.parametrize(
    ("rationale", "label", "expected"),
    [
        ("He has 3 and buys 2. So he has 5.", "( 3 + 2 )", True),
        ("He has 3 and buys 2. So he has 5.", "( 3 - 2 )", False),
        ("So 1,200 are left", "1200", True),
        ("She has 5. That is all.", "5", False),
        ("Dogs are animals. So this is entailment.", "entailment", True),
        ("A cat is not a dog.", "contradiction", False),
        ("It is a catalogue.", "cat", False),
        ("", "5", False),
        ("So it is.", "", False),
    ],
)
def test_a_rationale_supports_a_label_that_its_last_sentence_has(rationale, label, expected):
    assert supports(rationale, label) is expected


def test_the_teachers_own_words_score_100_and_others_less(tmp_path):
    make_sweep_run(tmp_path, method="step_by_step", correct=[True] * 20)
    (run,) = read_sweep(tmp_path).runs
    quality = rationale_quality(run)
    # Every second rationale of the made-up student is the teacher's, the others end without the number.
    assert quality.num_rows == 20
    assert quality.supports == 50.0
    assert quality.teacher_supports == 100.0
    assert 50.0 < quality.rouge_l < quality.rouge_1 < 100.0
    assert 0.0 < quality.bleu < 100.0


def test_a_single_task_student_is_scored_on_what_it_wrote_before_the_label(tmp_path):
    make_sweep_run(tmp_path, method="rationale_then_label", correct=[True, False])
    (run,) = read_sweep(tmp_path).runs
    assert run.rationales["svamp/test/0"][0] == "Ann starts with 3 apples and buys 2 more. So she has 5."
    quality = rationale_quality(run)
    assert quality.supports == 50.0  # the wrong label is not what its rationale ends with
    assert quality.rouge_1 is None


def test_a_method_without_rationales_has_no_quality(tmp_path):
    make_sweep(tmp_path, methods=["fine_tuning"], sizes=["tiny"], shares=[1.0], seeds=[0])
    assert rationale_quality(read_sweep(tmp_path).runs[0]) is None
