"""An answer that its own text doubts or takes back is none, of equations, choices and any text."""

import re
import time

import pytest

from stepdistill_jax.datasets import CompletionFormat
from stepdistill_jax.teacher.answers.requests import Answer
from stepdistill_jax.teacher.prompting.answer_reading import Reading
from stepdistill_jax.teacher.prompting.taken_back import TAKEN_BACK
from stepdistill_jax.teacher.prompting.tolerant_parsing import LabelForm

READING = Reading(CompletionFormat("The answer is", "Q:"), is_chat=True)
FORMS = [
    (LabelForm(equation=True), "12 - 5"),
    (LabelForm(("yes", "no")), "yes"),
    (LabelForm(("table", "shelf"), lettered=True), "(a) table"),
    (LabelForm(), "Paris"),
]
BEFORE = [
    "I do not think the answer is {}.",
    "It is wrong that the answer is {}.",
    "One might say the answer is {}.",
    "If the answer is {}, something is odd.",
    "I doubt the answer is {}.",
]
BELOW = [
    "Wait, no.",
    "Actually, that is another one.",
    "Hmm, let me see.",
    "Correction: the other one",
    "No, the other one.",
    "On second thought, the other one.",
    "Scratch that.",
    "Sorry, I misread it.",
    "But wait.",
    "**Edit:** the other one",
]
BESIDE = [
    "Wait, that is wrong.",
    "No, wait.",
    "Actually no.",
    "This is incorrect.",
    "Hmm, it should be less.",
]


def _read(text, form):
    parsed = READING.read(Answer(text, "stop"), form)
    return parsed.label, parsed.unparsed_reason


@pytest.mark.parametrize(("form", "label"), FORMS)
@pytest.mark.parametrize("said", BEFORE)
def test_an_answer_doubted_before_it_is_given_is_none(form, label, said):
    got, reason = _read("Some are lost. " + said.format(label), form)
    assert (got, bool(reason)) == ("", True)
    assert reason == TAKEN_BACK or said.startswith("If")


@pytest.mark.parametrize(("form", "label"), FORMS)
@pytest.mark.parametrize("below", BELOW)
def test_an_answer_taken_back_below_is_none(form, label, below):
    for gap in ("\n", "\n\n"):
        got, reason = _read(f"Some are lost. The answer is {label}.{gap}{below}", form)
        assert (got, bool(reason)) == ("", True)
        assert reason == TAKEN_BACK or "no" in form.choices


@pytest.mark.parametrize(("form", "label"), FORMS[:3])
@pytest.mark.parametrize("beside", BESIDE)
def test_an_answer_taken_back_on_its_line_is_none(form, label, beside):
    got, reason = _read(f"Some are lost. The answer is {label}. {beside}", form)
    assert (got, bool(reason)) == ("", True)


@pytest.mark.parametrize(
    "text",
    [
        "He does not eat any, so the answer is {}.",
        "Wait, some are lost. Actually 5. The answer is {}.",
        "If some are lost, the answer is {}.",
        "He did not eat any so the answer is {}.",
        "Some are lost. The answer is {}.\n\nLet me count again.\n\nThe answer is {}.",
        "Some are lost. The answer is {}.\n\nSo some are left.",
        "Some are lost. The answer is {}.\n\nNothing else is asked.",
        "Some are lost. The answer is {}.\n\nNote that none is eaten.",
    ],
)
@pytest.mark.parametrize(
    ("form", "label"), [(FORMS[0][0], "12 - 5"), (FORMS[1][0], "yes"), (FORMS[3][0], "Paris")]
)
def test_thinking_again_before_the_answer_is_no_sign(form, label, text):
    assert _read(text.replace("{}", label), form) == (label, "")


@pytest.mark.parametrize(
    "behind",
    [
        "Not 12 - 5.",
        "It's 8, not 7.",
        "~~12 - 5~~ 8",
        "However, 2 of them are broken.",
        "But 2 of them are broken, which leaves 5.",
    ],
)
def test_what_limits_a_number_below_it_takes_it_back(behind):
    text = f"Some are lost. The answer is 12 - 5.\n\n{behind}"
    assert _read(text, FORMS[0][0]) == ("", TAKEN_BACK)


@pytest.mark.parametrize(
    "behind",
    [
        "neutral (not enough information)",
        "neutral, because nobody says whether it is wrong or right.",
        "neutral — no information is given.",
        "contradiction.\n\nThe hypothesis is false: the man is actually sitting, rather than standing.",
        "neutral\n\nThe man is outside, but he may be on a roof. However, nobody says so.",
        "contradiction.\n\nInstead, the man sits.",
    ],
)
def test_an_explanation_behind_a_label_takes_nothing_back(behind):
    form = LabelForm(("entailment", "neutral", "contradiction"))
    assert _read(f"It is so. The answer is {behind}", form) == (re.match(r"\w+", behind)[0], "")


def test_a_label_that_is_a_word_of_doubt_is_read():
    assert _read("a. The answer is No.", LabelForm(("yes", "no"))) == ("no", "")
    assert _read("a. The answer is Hold on, I'm coming.", LabelForm()) == ("Hold on, I'm coming", "")
    assert _read("a. The answer is wait.", LabelForm(("wait", "go"))) == ("wait", "")


def test_long_texts_are_looked_through_in_no_time():
    start = time.monotonic()
    for text in (" \n" * 20_000, ")" * 40_000, ". " * 20_000, "not " * 10_000, "\n_" * 20_000):
        _read(f"a. The answer is 12.{text}x", FORMS[0][0])
        _read(f"a. The answer is yes.{text}x", FORMS[1][0])
        _read(f"a {text} the answer is 12.", FORMS[0][0])
    assert time.monotonic() - start < 5
