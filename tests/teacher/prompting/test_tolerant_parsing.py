"""Forgiving about form, strict about what the answer is."""

import pytest

from stepdistill_jax.datasets import CompletionFormat
from stepdistill_jax.teacher.prompting.tolerant_parsing import LabelForm, parse_answer

EQUATION = CompletionFormat()
BRACKETS = CompletionFormat("The answer is", "Q:", r"(\(.*\))")
NLI = CompletionFormat("Answer:", "Q:", r"^ (.*?)\s*$")
LABELS = ("entailment", "neutral", "contradiction")
SUMS = LabelForm(equation=True)
CQA = CompletionFormat("So the answer is", "Q:", r"\(.\)\s*(.+?)\s*\.?\s*(?:\(.\)|$)")
CHOICES = ("bank", "wooded area", "bank account", "bridge", "bridge")


@pytest.mark.parametrize(
    ("behind", "label"),
    [
        ("So the answer is ( 12 + 5 ) - 3.", "( 12 + 5 ) - 3"),
        ("so the  Answer is: 14 + 9 = 23 postcards.", "14 + 9"),
        ("**So the answer is 7.**", "7"),
        ("So, the answer is $1,200 in all.", "1,200"),
        ("So the answer is 3 × 4.", "3 * 4"),
        ("So the answer is 3 x 4 = 12", "3 * 4"),
        ("(So the answer is 5).", "5"),
        ("So the answer is 5 apples.\nSo the answer is 5.", "5"),
        ("So the answer is 5.\n\nQ: Tom has 3 cats. So the answer is 9.", "5"),
    ],
)
def test_equation_is_read_whatever_stands_around_it(behind, label):
    parsed = parse_answer(f"Two steps. {behind}", EQUATION, SUMS)
    assert (parsed.rationale, parsed.label, parsed.unparsed_reason) == ("Two steps.", label, "")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a. So the answer is 24 + 24 = 52.", "equation and value differ"),
        ("a. So the answer is apples.", "label is no equation"),
        ("a. So the answer is 12 apples and 3 pears.", "label is no equation"),
        ("a. So the answer is ( 12 + 5", "label is no equation"),  # '( 12 + 5 ) - 3' may have been cut
        ("a. So the answer is 5. So the answer is 6.", "two answer markers"),
        ("a. So the answer is", "no label behind marker"),
        ("a. So the answer is **", "no label behind marker"),
        ("So the answer is 5.", "empty rationale"),
        ("The sum is 5.", "no answer marker"),
        ("", "no answer marker"),
        ("a. So the answer is __import__('os').system('true').", "label is no equation"),
        ("a. So the answer is 2**99**99.", "label is no equation"),
    ],
)
def test_equation_that_is_not_certain_is_named(text, reason):
    parsed = parse_answer(text, EQUATION, SUMS)
    assert (parsed.label, parsed.unparsed_reason) == ("", reason)


def test_brackets_of_svamp_may_be_left_out():
    assert parse_answer("a. The answer is 8 - 3 = 5 marbles.", BRACKETS, SUMS).label == "8 - 3"
    assert parse_answer("a. The answer is (8 - 3).", BRACKETS, SUMS).label == "(8 - 3)"


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("A dog is an animal. Answer: entailment", "entailment"),
        ("A dog is an animal. answer: **Neutral**.", "neutral"),
        ('Premise says so.\nAnswer: "Contradiction"', "contradiction"),
        ("A dog. Answer: entail", "entailment"),
        ("A dog. Answer: entailment, because it must be.", "entailment"),
        ("A dog. Answer: neutral\n\nThe hypothesis adds a detail.", "neutral"),
    ],
)
def test_label_of_nli_is_read_where_it_is_certain(text, label):
    assert parse_answer(text, NLI, LabelForm(LABELS)).label == label


@pytest.mark.parametrize(
    "behind", ["entailment or neutral", "entailment, not neutral", "entailed", "c", "en", "entail\n\nmore"]
)
def test_label_of_nli_that_is_not_certain_is_no_choice(behind):
    parsed = parse_answer(f"A dog. Answer: {behind}", NLI, LabelForm(LABELS))
    assert (parsed.label, parsed.unparsed_reason) == ("", "label not among the choices")


@pytest.mark.parametrize(
    ("behind", "choices", "label"),
    [
        ("Bug", ("bug", "Bug"), "Bug"),
        ("**bug**.", ("Bug", "bug"), "bug"),
        ("BUG", ("bug", "Bug"), ""),
        ("Bug, because it crashes", ("bug", "Bug"), ""),
        ("billing", ("billing ", "billing"), "billing"),
        ("true", ("True", "true", "TRUE"), "true"),
        ("won't pay", ("won’t pay", "pays"), "won’t pay"),
        ("grün", ("gru\u0308n", "rot"), "gru\u0308n"),
        ("1.5", ("1", "2"), ""),
        ("3-4", ("3", "4"), ""),
        ("3: it is fair", ("3", "4"), "3"),
    ],
)
def test_of_choices_that_look_alike_the_one_that_is_spelled_so_is_meant(behind, choices, label):
    parsed = parse_answer(f"So it is. Answer: {behind}", NLI, LabelForm(choices))
    assert parsed.label == label
    assert bool(parsed.unparsed_reason) == (not label)


@pytest.mark.parametrize(
    ("behind", "label"),
    [
        ("(b) wooded area.", "wooded area"),
        ("**(B) Wooded  Area**.", "wooded area"),
        ("(b).", "wooded area"),
        ("B", "wooded area"),
        ("b) woo", "wooded area"),
        ("bank account", "bank account"),
        ("bank.", "bank"),
        ("(d) bridge", "bridge"),
    ],
)
def test_choice_is_read_by_letter_or_text(behind, label):
    assert (
        parse_answer(f"a. So the answer is {behind}", CQA, LabelForm(CHOICES, lettered=True)).label == label
    )


@pytest.mark.parametrize(
    "behind", ["(a) bank account", "(f) cave", "(b) bank", "cave", "(b) wooded area (c) bank"]
)
def test_letter_and_text_that_differ_are_no_choice(behind):
    parsed = parse_answer(f"a. So the answer is {behind}", CQA, LabelForm(CHOICES, lettered=True))
    assert parsed.unparsed_reason == "label not among the choices"


def test_any_text_is_a_label_where_there_are_no_choices():
    parsed = parse_answer("a. **So the answer is:** 'a piano'.\nmore", CompletionFormat(), LabelForm())
    assert (parsed.rationale, parsed.label) == ("a.", "a piano")


def test_very_long_output_is_read_in_no_time():
    import time

    start = time.monotonic()
    for text in (
        "So the answer is " * 20_000,
        "(" * 100_000,
        "a. So the answer is " + "9 " * 100_000,
        " \n" * 100_000,
    ):
        parse_answer(text, EQUATION, SUMS)
        parse_answer(text, CQA, LabelForm(CHOICES, lettered=True))
    assert time.monotonic() - start < 5
