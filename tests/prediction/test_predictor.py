"""Predictor: what comes back for a text. The network is made up: it counts words."""

import numpy as np
import pytest

from stepdistill_jax.prediction.calibration import Calibration
from stepdistill_jax.prediction.written import Written


def test_the_most_likely_choice_comes_back_with_its_probability(made_up):
    predictor = made_up()
    one, two = predictor(["apples apples", "no apples, no"])
    assert (one.label, two.label) == ("apples", "no")
    assert tuple(one.probabilities) == predictor.choices
    assert one.probability == one.probabilities["apples"] == max(one.probabilities.values())
    assert sum(one.probabilities.values()) == pytest.approx(1.0, abs=1e-9)
    assert not one.truncated
    assert one.rationale is None


def test_of_choices_that_are_equally_likely_the_first_is_taken(made_up):
    [prediction] = made_up()(["pears"])
    assert len(set(prediction.probabilities.values())) == 1
    assert prediction.label == "apples"


def test_it_abstains_where_the_probability_is_too_small(made_up):
    predictor = made_up()
    [sure] = predictor(["apples apples apples"], abstain_below=0.5)
    [unsure] = predictor(["pears"], abstain_below=0.5)
    assert sure.label == "apples"
    assert (unsure.label, unsure.probability) == (None, pytest.approx(1 / 3))
    with pytest.raises(ValueError, match=r"abstain_below=80; use a probability"):
        predictor(["pears"], abstain_below=80)


def test_a_temperature_changes_probabilities_and_no_label(made_up):
    predictor = made_up()
    [before] = predictor(["apples apples no"])
    predictor.use(Calibration(4.0, 0.2, 0.1, 10, 0.9, "", 7))
    [after] = predictor(["apples apples no"])
    assert after.label == before.label
    assert after.probability < before.probability
    assert predictor.student.is_calibrated


def test_a_blank_text_keeps_its_place_and_asks_nothing(made_up):
    predictor = made_up()
    blank, apples, blanks = predictor(["", "apples", " \n"], rationale=True)
    assert apples.label == "apples"
    for prediction in (blank, blanks):
        assert (prediction.label, prediction.probability, prediction.rationale) == (None, None, None)
    assert predictor.student.network.asked == 1
    assert predictor([]) == []


def test_a_text_that_the_vocabulary_has_nothing_of_asks_nothing(made_up):
    predictor = made_up()
    nothing, apples = predictor(["\u200b", "apples\u200b"])
    assert (nothing.label, nothing.probability) == (None, None)
    assert apples.label == "apples"


def test_a_text_that_is_longer_than_in_training_is_cut_and_flagged(made_up):
    predictor = made_up()
    long = "no " * 30 + "apples " * 60
    [cut] = predictor([long])
    assert predictor.num_tokens([long, "no"]) == [
        predictor.num_tokens([long])[0],
        predictor.num_tokens(["no"])[0],
    ]
    assert predictor.num_tokens([long])[0] > predictor.max_input_tokens == 40
    assert (cut.label, cut.truncated) == ("no", True)


def test_a_rationale_comes_beside_the_label(made_up):
    predictor = made_up()
    [prediction] = predictor(["apples 3"], rationale=True)
    assert (prediction.label, prediction.rationale) == ("apples", "apples 3")
    [cut] = predictor(["1 2 3 4 5 6 7 8 9 10 11 12 13"], rationale=True)
    assert cut.truncated


def test_a_student_that_has_learnt_none_says_so(made_up):
    predictor = made_up(learns_rationales=False, task="fruit_label")
    with pytest.raises(ValueError, match="was trained on fruit_label, without rationales"):
        predictor(["apples"], rationale=True)


def test_open_text_is_written_and_read_back_as_its_label(made_up):
    predictor = made_up(choices=(), label_words={"{no}": "no"})
    one, two = predictor(["no", "3 apples"])
    assert (one.label, two.label) == ("{no}", "3 apples")
    assert one.probability == pytest.approx(0.6065, abs=1e-4)
    assert (one.probabilities, predictor.choices) == ({}, ())


def test_a_label_behind_a_rationale_is_found_or_missed(made_up):
    predictor = made_up(answer_marker="so", learns_rationales=False)
    found, missed = predictor(["3 and 2 so 5", "3 and 2"], rationale=True)
    assert (found.rationale, found.label) == ("3 and 2", "5")
    assert (missed.rationale, missed.label, missed.probability) == ("3 and 2", None, None)
    assert predictor(["3 and 2 so 5"])[0].rationale is None


@pytest.mark.parametrize(
    ("texts", "error", "said"),
    [
        ("apples", TypeError, r"give a list of texts, \['apples'\]"),
        (["apples", None], TypeError, r"texts\[1\]=None is no text but a NoneType"),
        (["\ud800"], ValueError, "half of a character"),
    ],
    ids=["one text", "None", "surrogate"],
)
def test_what_is_no_list_of_texts_is_named(made_up, texts, error, said):
    with pytest.raises(error, match=said):
        made_up()(texts)


@pytest.mark.parametrize("scores", [[0.0, np.nan, 0.0], [np.inf, 0.0, 0.0], [-np.inf] * 3])
def test_an_answer_without_a_probability_is_an_error_not_a_label(made_up, scores):
    predictor = made_up()
    predictor.student.network.score_choices = lambda rows: np.array([[1.0, 0.0, 0.0], scores], np.float32)
    for ask in (predictor, predictor.log_probs):
        with pytest.raises(FloatingPointError, match=r"step 7: answers to 1 of 2 texts .* an earlier --step"):
            ask(["no", "apples"])


def test_a_written_answer_without_a_probability_is_an_error_too(made_up):
    predictor = made_up(choices=())
    predictor.student.network.write = lambda rows: [Written([5], np.nan, False) for _ in rows]
    with pytest.raises(FloatingPointError, match="answers to 1 of 1 texts"):
        predictor(["no"])


def test_a_choice_that_is_impossible_has_probability_0(made_up):
    predictor = made_up()
    predictor.student.network.score_choices = lambda rows: np.array([[0.0, -np.inf, -np.inf]], np.float32)
    [prediction] = predictor(["no"])
    assert list(prediction.probabilities.values()) == [1.0, 0.0, 0.0]


def test_characters_that_the_vocabulary_does_not_know_are_named(made_up):
    predictor = made_up()
    assert predictor.lost_characters(["3 apples", "5"]) == []
    assert predictor.lost_characters(["猫 cafe\u0301", "1\n2", "猫 犬"]) == ["\n", "é", "犬", "猫"]
    assert made_up(line_break="newline").lost_characters(["1\n2"]) == []
