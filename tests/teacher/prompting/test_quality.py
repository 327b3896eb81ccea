"""Quality rules over parsed answers."""

import pytest

from stepdistill_jax import datasets
from stepdistill_jax.teacher.answers.parsing import ParsedCompletion
from stepdistill_jax.teacher.prompting.quality import (
    Duplicates,
    QualityRules,
    Vote,
    dropped_reason,
    majority,
)

SUMS = datasets.Dataset(name="sums", to_example=dict, rows=list, metric="equation")
WRONG_FORM = ParsedCompletion("", "", "no answer marker")


def _answers(*labels):
    return [
        ParsedCompletion(f"because {i}", label) if label else WRONG_FORM for i, label in enumerate(labels)
    ]


def test_majority_of_equations_is_by_value_and_its_rationale_leads_to_it():
    assert majority(_answers("5", "1 + 2", "3", "", "( 4 - 1 )"), equation=True) == Vote(chosen=1, votes=3)


def test_majority_of_texts_is_by_text_and_the_earliest_wins_a_tie():
    assert majority(_answers("b", "a", "a", "b"), equation=False) == Vote(chosen=0, votes=2)
    assert majority(_answers("", "a"), equation=False) == Vote(chosen=1, votes=1)


def test_nothing_parsed_has_no_majority():
    assert majority(_answers("", ""), equation=True) is None


def _dropped(parsed, gold="1 + 2", votes=1, **rules):
    return dropped_reason(parsed, rules=QualityRules(**rules), dataset=SUMS, gold=gold, votes=votes)


def test_every_rule_is_off_by_default():
    assert _dropped(ParsedCompletion("very " * 500, "9" * 50)) == ""


@pytest.mark.parametrize(
    ("label", "gold", "rules", "reason"),
    [
        ("3", "1 + 2", {"only_correct": True}, ""),
        ("4", "1 + 2", {"only_correct": True}, "label is not the gold label"),
        ("3", None, {"only_correct": True}, "no gold label to compare with"),
        ("3", "3", {"max_rationale_words": 3}, "rationale has more than 3 words"),
        ("3", "3", {"max_rationale_words": 4}, ""),
        ("1 + 2", "3", {"max_label_words": 2}, "label has more than 2 words"),
        ("3", "3", {"samples": 3, "min_votes": 2}, "fewer than 2 of 3 samples agree"),
    ],
)
def test_each_rule_drops_what_it_says(label, gold, rules, reason):
    assert _dropped(ParsedCompletion("one two three four", label), gold=gold, **rules) == reason


def test_unparsed_answers_are_not_counted_as_dropped_too():
    assert _dropped(WRONG_FORM, only_correct=True) == ""


def test_duplicates_are_told_within_a_split_whatever_their_case():
    duplicates = Duplicates()
    assert not duplicates.seen_before("train", "They have 3 in all.")
    assert duplicates.seen_before("train", "they have 3, in all")
    assert not duplicates.seen_before("test", "They have 3 in all.")


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        ({"samples": 0}, "--samples=0"),
        ({"samples": 3, "min_votes": 4}, "--min_votes=4 of --samples=3"),
        ({"max_rationale_words": -1}, "--max_rationale_words=-1"),
    ],
)
def test_rule_that_cannot_be_met_is_refused(rules, words):
    with pytest.raises(ValueError, match=words):
        QualityRules(**rules)
