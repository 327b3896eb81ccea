"""The embedded problems: the same everywhere, distinct, and solved correctly."""

import hashlib
import re
from fractions import Fraction

import pytest

from stepdistill_jax.datasets.wordproblems import SPLIT_SIZES, generate
from stepdistill_jax.datasets.wordproblems.generator import LARGEST_NUMBER
from stepdistill_jax.datasets.wordproblems.templates import STRUCTURES, TEMPLATES

# Made by `_checksum` below on Python 3.11 and 3.12; a change of texts or seed changes them, and needs a new vocabulary.
CHECKSUMS = {
    "test": "8942cafbc1819990",
    "train": "bc0495b2d0610fb3",
    "validation": "38b252fdb3300635",
}


def _checksum(split):
    lines = "\n".join("\t".join((p.inputs, p.label, p.worked_solution)) for p in generate(split))
    return hashlib.sha256(lines.encode()).hexdigest()[:16]


@pytest.fixture(scope="module")
def problems():
    return [problem for split in SPLIT_SIZES for problem in generate(split)]


def _value(label):
    """Reference value of a fully bracketed label, by folding innermost brackets; exact."""
    tokens = label.split()

    def operand(at):
        if tokens[at] == "(":
            value, at = expression(at + 1)
            assert tokens[at] == ")"
            return value, at + 1
        return Fraction(tokens[at]), at + 1

    def expression(at):
        left, at = operand(at)
        sign = tokens[at]
        right, at = operand(at + 1)
        return {"+": left + right, "-": left - right, "*": left * right, "/": left / right if right else 0}[
            sign
        ], at

    value, end = expression(0)
    assert end == len(tokens)
    return value


@pytest.mark.parametrize("split", sorted(SPLIT_SIZES))
def test_split_is_the_same_as_when_its_checksum_was_stored(split):
    assert len(generate(split)) == SPLIT_SIZES[split]
    assert _checksum(split) == CHECKSUMS[split]


def test_no_text_occurs_twice_in_any_split(problems):
    assert len({p.inputs for p in problems}) == len(problems)


def test_test_and_validation_share_no_template_with_equation_with_other_splits():
    keys = {split: {(p.template, p.label) for p in generate(split)} for split in SPLIT_SIZES}
    assert not keys["test"] & (keys["train"] | keys["validation"])
    assert not keys["validation"] & keys["train"]


def test_every_template_and_structure_occurs_in_every_split():
    assert len(TEMPLATES) >= 40
    assert {t.structure for t in TEMPLATES} == set(STRUCTURES)
    for split in SPLIT_SIZES:
        assert {p.template for p in generate(split)} == {t.name for t in TEMPLATES}


def test_answer_is_a_positive_integer_and_ends_the_solution(problems):
    for p in problems:
        value = _value(p.label)
        assert value.denominator == 1, p
        assert 2 <= value <= LARGEST_NUMBER, p
        assert int(re.findall(r"(?:=|is) (\d+)", p.worked_solution)[-1]) == value, p


def test_numbers_of_the_label_stand_in_the_text(problems):
    for p in problems:
        assert set(re.findall(r"\d+", p.label)) <= set(re.findall(r"\d+", p.inputs)), p


def test_a_third_of_the_problems_have_a_number_they_do_not_need_and_the_solution_says_so(problems):
    needless = [p for p in problems if set(re.findall(r"\d+", p.inputs)) - set(re.findall(r"\d+", p.label))]
    assert 0.3 < len(needless) / len(problems) < 0.4
    assert all("do not matter" in p.worked_solution for p in needless)


def test_solution_does_not_hold_the_whole_label(problems):
    assert not [p for p in problems if p.label in p.worked_solution]


def test_texts_are_clean(problems):
    for p in problems:
        for text in (p.inputs, p.label, p.worked_solution):
            assert text.isascii(), p
            assert text == " ".join(text.split()), p
            assert not set("{}") & set(text), p


def test_error_names_the_unknown_split():
    with pytest.raises(ValueError, match=r"'dev'.*test, train, validation"):
        generate("dev")
