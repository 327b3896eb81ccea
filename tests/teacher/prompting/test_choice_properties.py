"""A choice comes back as the one that was meant, or not at all, for the labels of every dataset of ours."""

import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepdistill_jax.datasets.dataset import CompletionFormat
from stepdistill_jax.teacher.answers.requests import Answer
from stepdistill_jax.teacher.prompting.answer_reading import Reading
from stepdistill_jax.teacher.prompting.tolerant_parsing import LabelForm

NLI = ("entailment", "neutral", "contradiction")
FORMATS = {
    "anli": CompletionFormat("So the answer is", "Premise:", r"^\s*(.*?).$"),
    "esnli": CompletionFormat("Answer:", "Premise", r"^ (.*?)\s*$"),
    "cqa": CompletionFormat("So the answer is", "Q:", r"\(.\)\s*(.+?)\s*\.?\s*(?:\(.\)|$)"),
}
WORDS = [
    "bank",
    "bank account",
    "account",
    "a",
    "b",
    "park",
    "new york",
    "york",
    "not in use",
    "use",
    "c3",
    "3",
]
FRAMES = [
    "{}", "**{}**", "{}.", '"{}"', "`{}`", r"\boxed{{{}}}", r"$\boxed{{\text{{{}}}}}$", "*{}*", "{}, as was said.",
    "{}\n\nThat is all.", "option {}", "Option {}.", "({})", "the {}", "{} because so",
]  # fmt: skip
LETTERED = [
    "({letter}) {text}",
    "{letter}) {text}",
    "{letter}. {text}",
    "{letter}: {text}",
    "{text} ({letter})",
]
LETTERED += ["({letter})", "{letter}", "{letter}."]
NAMES = st.sampled_from(["{text}", *LETTERED])


def _said(frame, name, letter, text, upper):
    letter = letter.upper() if upper else letter
    return frame.format(name.format(letter=letter, text=text.title() if upper else text))


def _read(dataset, behind, form):
    marker = FORMATS[dataset].answer_marker
    return Reading(FORMATS[dataset]).read(Answer(f"It is so. {marker} {behind}", "stop"), form)


def _check_choice(choices, meant, other, name, frame, upper):
    form = LabelForm(choices, lettered=True)
    letter = string.ascii_lowercase[meant]
    parsed = _read("cqa", _said(frame, name, letter, choices[meant], upper), form)
    assert parsed.label in ("", choices[meant]), (choices, frame, name)
    assert bool(parsed.label) != bool(parsed.unparsed_reason)
    both = "letter" in name and "text" in name
    if both and other != meant:
        assert _read("cqa", _said(frame, name, letter, choices[other], upper), form).label == "", (
            choices,
            name,
        )


CASES = (
    st.lists(st.sampled_from(WORDS), min_size=5, max_size=5, unique=True).map(tuple),
    st.integers(0, 4),
    st.integers(0, 4),
    NAMES,
    st.sampled_from(FRAMES),
    st.booleans(),
)


@settings(max_examples=300, deadline=None)
@given(*CASES)
def test_a_lettered_choice_is_the_one_meant_or_none(choices, meant, other, name, frame, upper):
    _check_choice(choices, meant, other, name, frame, upper)


@pytest.mark.slow
@settings(max_examples=10_000, deadline=None)
@given(*CASES)
def test_ten_thousand_lettered_choices_are_those_meant_or_none(choices, meant, other, name, frame, upper):
    _check_choice(choices, meant, other, name, frame, upper)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(["anli", "esnli"]), st.sampled_from(NLI), st.sampled_from(FRAMES), st.booleans())
def test_a_label_of_nli_is_the_one_meant_or_none(dataset, label, frame, upper):
    parsed = _read(dataset, _said(frame, "{text}", "", label, upper), LabelForm(NLI))
    assert parsed.label in ("", label)
    if frame in FRAMES[:10]:
        assert parsed.label == label, frame


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(["anli", "esnli"]),
    st.permutations(NLI),
    st.sampled_from([" or ", ", not ", " and ", "/", " (not "]),
)
def test_two_labels_of_nli_are_none(dataset, labels, between):
    parsed = _read(dataset, f"{labels[0]}{between}{labels[1]}", LabelForm(NLI))
    assert parsed.label == ""
