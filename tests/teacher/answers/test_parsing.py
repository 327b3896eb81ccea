"""Raw completions into rationale and label, with invented continuations as PaLM writes them."""

import pytest

from stepdistill_jax.datasets import CompletionFormat
from stepdistill_jax.teacher import parse_completion

EQUATION = CompletionFormat(answer_marker="The answer is", next_question="Q:", label_pattern=r"(\(.*\))")
CHOICE = CompletionFormat(
    answer_marker="So the answer is", next_question="Q:", label_pattern=r"\(.\)\s*(.*?)\.?$"
)
ENTAILMENT = CompletionFormat(answer_marker="Answer:", next_question="Premise", label_pattern=r"^ (.*)$")
LABELS = ("entailment", "neutral", "contradiction")


def test_parser_keeps_text_before_answer_marker_and_cuts_the_invented_question():
    parsed = parse_completion(
        "So 10 * 45 seeds. The answer is (10 * 45).\n\nQ: What? The answer is (1).", EQUATION
    )
    assert (parsed.rationale, parsed.label, parsed.unparsed_reason) == ("So 10 * 45 seeds.", "(10 * 45)", "")


def test_equation_may_have_inner_brackets():
    assert parse_completion("x. The answer is (10 - (3 + 6)).", EQUATION).label == "(10 - (3 + 6))"


def test_choice_is_taken_without_its_letter_and_full_stop():
    parsed = parse_completion("Only wood. So the answer is (c) wooded area.\n\nQ: and so on", CHOICE)
    assert (parsed.rationale, parsed.label) == ("Only wood.", "wooded area")


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        ("A dog is an animal.", "no answer marker"),
        ("", "no answer marker"),
        ("Premise: p\nAnswer: neutral", "no answer marker"),
        ("A. Answer: neutral\nB. Answer: neutral", "two answer markers"),
        ("A dog is an animal.\nAnswer:", "no label behind marker"),
        ("A dog is an animal.\nAnswer: entail", "label not among the choices"),
        ("A dog is an animal.\nAnswer: entailment\n\nPre", "label not among the choices"),
        ("\nAnswer: entailment\n\nPremise: p", "empty rationale"),
    ],
)
def test_what_teaches_nothing_is_named(output, reason):
    parsed = parse_completion(output, ENTAILMENT, labels=LABELS)
    assert (parsed.label, parsed.unparsed_reason) == ("", reason)


def test_any_text_is_a_label_where_the_task_has_no_fixed_ones():
    assert parse_completion("A.\nAnswer: perhaps", ENTAILMENT).label == "perhaps"
