"""Equations are worth their value, and nothing but an equation is worth anything."""

import time
from fractions import Fraction

import pytest

from stepdistill_jax.datasets.equations import evaluate, values_match


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("84 / 2", 42),
        ("( 84.0 / 2.0 )", 42),
        ("(17 + 15 + 2)", 34),
        ("( 10.0 - ( 6.0 + 3.0 ) )", 1),
        ("2 + 3 * 4 - 6 / 3", 12),
        ("8 - 3 - 2", 3),
        ("16 / 4 / 2", 2),
        ("-(3 - 5)", 2),
        ("3 * -2", -6),
        (".5 + 5.", Fraction(11, 2)),
        ("0.1 + 0.2", Fraction(3, 10)),
        ("1,234 + 1,000,000", 1001234),
        ("50% * 8", 4),
        (" 7 ", 7),
        ("(4 + 5 and 2 * 3)", 6),
        ("0 and 5", 0),
    ],
)
def test_an_equation_has_its_exact_value(text, value):
    assert evaluate(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "()",
        "(1, 2)",
        "1 2",
        "2 (3)",
        "1 +",
        "* 3",
        "(1",
        "1)",
        "1 / 0",
        "3 / (2 - 2)",
        "2 ** 99 ** 99",
        "2**9",
        "7 // 2",
        "10 - 3 = 7",
        "nan",
        "inf",
        "1e999",
        "x + 1",
        "12,34",
        "0,125",
        "3 and",
        "and 3",
        "3 andy 4",
        "٣ + ٤",
        "__import__('os').system('true')",
        "[" * 50,
        "6:7",
        None,
        7,
    ],
)
def test_what_is_no_equation_has_no_value(text):
    assert evaluate(text) is None


@pytest.mark.parametrize(
    "text", ["(" * 10_000_000, "(" * 999, "-" * 999, "9" * 10_000_000, "(" * 60 + "1" + ")" * 60]
)
def test_hostile_lengths_and_depths_are_refused_at_once(text):
    started = time.perf_counter()
    assert evaluate(text) is None
    assert time.perf_counter() - started < 0.2


def test_long_products_stay_quick():
    started = time.perf_counter()
    assert evaluate("*".join(["9999"] * 190)) == 9999**190
    assert time.perf_counter() - started < 0.2


def test_values_match_up_to_rounding_only():
    assert values_match(evaluate("10 / 3"), evaluate("3.3333333"))
    assert not values_match(evaluate("10 / 3"), evaluate("3.33"))
    assert not values_match(None, None)
    assert not values_match(evaluate("0"), evaluate("0.0000001"))
