"""Any equation that our prompts can elicit, in any rendering, comes back with its exact value or not at all."""

import re
from fractions import Fraction

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from stepdistill_jax.datasets import equations
from stepdistill_jax.datasets.dataset import CompletionFormat
from stepdistill_jax.teacher.answers.requests import Answer
from stepdistill_jax.teacher.prompting.answer_reading import Reading
from stepdistill_jax.teacher.prompting.tolerant_parsing import LabelForm

EQUATION = LabelForm(equation=True)
# Those of svamp and asdiv, and of wordproblems.
FORMATS = [CompletionFormat("The answer is", "Q:", r"(\(.*\))"), CompletionFormat()]

# A tree is a number as text, or (operator, left, right).
numbers = st.one_of(
    st.integers(0, 20).map(str),
    st.integers(0, 10**7).map(str),
    st.decimals(0, 1000, places=2).map(lambda d: f"{d:f}"),
    st.sampled_from(["½", "¾", "12½", "3⅓"]),
)
trees = st.recursive(numbers, lambda inner: st.tuples(st.sampled_from("+-*/"), inner, inner), max_leaves=6)

VULGAR = {"½": Fraction(1, 2), "¾": Fraction(3, 4), "12½": Fraction(25, 2), "3⅓": Fraction(10, 3)}
# Operators as ASCII, typographic, LaTeX; the last gets fractions for quotients.
SIGNS = [
    {"+": " + ", "-": " - ", "*": " * ", "/": " / "},
    {"+": "+", "-": "-", "*": "*", "/": "/"},
    {"+": " + ", "-": " − ", "*": " × ", "/": " ÷ "},
    {"+": " + ", "-": " – ", "*": " · ", "/": " / "},
    {"+": " + ", "-": " - ", "*": " x ", "/": " / "},
    {"+": " ＋ ", "-": "−", "*": "⋅", "/": "∕"},
    {"+": " + ", "-": " - ", "*": r" \times ", "/": r" \div "},
    {"+": "+", "-": "-", "*": r"\cdot ", "/": r"\frac"},
]
PRECEDENCE = {"+": 1, "-": 1, "*": 2, "/": 2}


def value(tree):
    """The exact value, None for a division by zero."""
    if isinstance(tree, str):
        return VULGAR[tree] if tree in VULGAR else Fraction(tree)
    sign, left, right = tree[0], value(tree[1]), value(tree[2])
    if left is None or right is None or (sign == "/" and right == 0):
        return None
    return {"+": left + right, "-": left - right, "*": left * right, "/": left / right if right else None}[
        sign
    ]


def render(tree, signs, *, full, thousands, currency, spaced):
    """The tree as text, with all brackets or only those that it needs."""
    style = {"full": full, "thousands": thousands, "currency": currency, "spaced": spaced}
    if isinstance(tree, str):
        if thousands and tree not in VULGAR:
            whole, point, rest = tree.partition(".")
            tree = f"{int(whole):,}".replace(",", thousands) + point + rest
        return f"{currency}{tree}"
    sign, *parts = tree
    if signs[sign] == r"\frac":
        over, under = (render(part, signs, **style) for part in parts)
        return rf"\frac{{{over}}}{{{under}}}"
    texts = []
    for place, part in enumerate(parts):
        text = render(part, signs, **style)
        if not isinstance(part, str) and signs[part[0]] != r"\frac":
            weaker = PRECEDENCE[part[0]] < PRECEDENCE[sign]
            same_on_the_right = place == 1 and PRECEDENCE[part[0]] == PRECEDENCE[sign]
            if full or weaker or same_on_the_right:
                text = f"({spaced}{text}{spaced})"
        texts.append(text)
    return texts[0] + signs[sign] + texts[1]


UNITS = [
    "", " pots", " liters", " red pots in all", " km/h", " m²", " dollars", "€", " (pots)", " each", " pots.",
    " of them are left", ", which is all", " kg left over", "!",
]  # fmt: skip
# These make another number of what stands before them; which one is not for a program to guess.
SCALES = [
    " thousand", " dozen", " and a half", " hundred pots", "k", "K", "²", " squared", " plus two", " or three",
    " million dollars", "万", " over five", " point five", "bn", "^2", "**2", "e3", "!!5", " to 5", "x", " n", "…",
]  # fmt: skip
FRAMES = [
    "{}", "**{}**", "${}$", r"\({}\)", r"\[ {} \]", r"\boxed{{{}}}", r"$\boxed{{{}}}$", "({})", "'{}'", "`{}`",
    "{}.", "**{}.**", r"\[\boxed{{{}}}\]", "\n{}\n", r"\left({}\right)", r"\text{{{}}}", "[{}]", "*{}*", "__{}__",
    "```\n{}\n```", r"\displaystyle {}", "\n\n$$\n{}\n$$", "{{{}}}", r"\begin{{align*}}{}\end{{align*}}", "”{}”",
]  # fmt: skip
MARKERS = [
    "Some are lost. The answer is {}", "Some are lost. So the answer is: {}", "Some are lost.\n\nFinal answer: {}",
    "Some are lost.\n\n**Final Answer:** {}", "<think>Is the answer 3?</think>Some are lost. The answer is {}",
    "Some are lost.\n### Answer\nThe answer is {}\n\nShe has them now.", "Some are lost. (The answer is {})",
    "Some are lost. The answer is {} because they are all there.", "Some are lost.\nAnswer: {}",
    "Some are lost. It is therefore {}",
]  # fmt: skip
# What a prompt of ours elicits plainly: these must be read, not only never be misread.
PLAIN_FRAMES, PLAIN_UNITS = (
    ["{}", "**{}**", "({})", "${}$", r"\boxed{{{}}}", "{}.", r"\[ {} \]", "'{}'"],
    ["", " pots"],
)


# 5-7 alone may be a range, and 1-½ one and a half.
MAY_BE_JOINED = re.compile(r"\d-[$€£]? ?[\d½¾]")
# Not '.', which is the decimal point of the prompts' language.
THOUSANDS = ["", ",", "{,}", r"\,", "\u202f", " "]


@st.composite
def said(draw, units=UNITS, frames=FRAMES, markers=MARKERS, thousands=THOUSANDS, outside=True):
    """(text, value): an answer, and what its equation is worth."""
    tree = draw(trees)
    signs = draw(st.sampled_from(SIGNS))
    text = render(
        tree,
        signs,
        full=draw(st.booleans()),
        thousands=draw(st.sampled_from(thousands)),
        currency=draw(st.sampled_from(["", "", "$", "€", "£ "])),
        spaced=draw(st.sampled_from(["", " "])),
    )
    worth = value(tree)
    frame, unit = draw(st.sampled_from(frames)), draw(st.sampled_from(units))
    if draw(st.booleans()) and worth is not None and worth.denominator == 1:
        text = f"{text} = {worth}"
    outside = outside and draw(st.booleans())
    framed = frame.format(text) + unit if outside else frame.format(text + unit)
    return draw(st.sampled_from(markers)).format(framed), worth


def read(text, completion_format):
    return Reading(completion_format).read(Answer(text, "stop"), EQUATION)


def check(case, completion_format):
    text, worth = case
    parsed = read(text, completion_format)
    if parsed.unparsed_reason:
        assert parsed.label == ""
        return
    assert worth is not None, (text, parsed.label)
    assert equations.values_match(equations.evaluate(parsed.label), worth), (text, parsed.label, worth)
    assert parsed.rationale.startswith("Some are lost."), (text, parsed.rationale)


NEVER_WRONG = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}


@settings(max_examples=300, **NEVER_WRONG)
@given(said(), st.sampled_from(FORMATS))
def test_an_equation_has_its_exact_value_or_a_reason(case, completion_format):
    check(case, completion_format)


@pytest.mark.slow
@settings(max_examples=12_000, **NEVER_WRONG)
@given(said(), st.sampled_from(FORMATS))
def test_twelve_thousand_equations_have_their_exact_value_or_a_reason(case, completion_format):
    check(case, completion_format)


@settings(max_examples=150, **NEVER_WRONG)
@example((r"Some are lost. The answer is \[ 8 / ½ \]", Fraction(16)), FORMATS[0])
@given(said(PLAIN_UNITS, PLAIN_FRAMES, MARKERS[:6], ["", ","], outside=False), st.sampled_from(FORMATS))
def test_what_our_prompts_elicit_is_read(case, completion_format):
    text, worth = case
    if worth is not None and not ("=" not in text and MAY_BE_JOINED.search(text)):
        label = read(text, completion_format).label
        assert equations.values_match(equations.evaluate(label), worth), (text, label, worth)


@settings(max_examples=100, **NEVER_WRONG)
@given(said(SCALES, ["{}", "({})", "**{}**", "${}$", r"\({}\)"]), st.sampled_from(FORMATS))
def test_what_makes_another_number_of_an_equation_leaves_it_unread(case, completion_format):
    parsed = read(case[0], completion_format)
    assert (parsed.label, bool(parsed.unparsed_reason)) == ("", True), case
