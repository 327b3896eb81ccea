"""Values of arithmetic equations, by a small parser.

A student or teacher answers SVAMP with an equation such as '( 10.0 - ( 6.0 + 3.0 ) )', and what counts is its value. The
authors' metrics.py runs Python's eval on the text; this is model output, so here it is parsed: numbers, + - * /,
brackets, signs, and nothing else. An answer of two equations, 'A and B', has the value that Python's eval gives it, B
(A where A is 0): two of PaLM-540B's 1,000 answers have that form, and the published accuracies count them so.
"""

import re
from fractions import Fraction

MAX_LENGTH = (
    1000  # characters; the longest equation of SVAMP has 35, the longest sensible answer not many more
)
MAX_DEPTH = 50  # brackets and signs inside each other; each level costs three Python frames
RELATIVE_TOLERANCE = Fraction(1, 10**6)  # tells 1/3 from 0.333, not from 0.3333333

_NUMBER = r"(?:[1-9][0-9]{0,2}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]*)?|\.[0-9]+"
_TOKEN = re.compile(rf"\s*(?:({_NUMBER})|([-+*/()%]|and\b))")


def evaluate(text: str) -> Fraction | None:
    """The exact value of an equation, None where the text is not one.

        '( 84.0 / 2.0 )' -> 42      '1,200 - 200' -> 1000      '50%' -> 1/2      '(1, 2)', '2**9', '1/0' -> None

    Numbers are decimal, with commas before groups of three digits if at all ('0,125', a decimal comma, is none); '%' behind a value divides it by 100.
    Never raises, and takes about a millisecond at most: longer texts than MAX_LENGTH are not read.
    """
    if not isinstance(text, str) or len(text) > MAX_LENGTH:
        return None
    tokens = _tokens(text.strip())
    if not tokens:
        return None
    try:
        value, end = _conjunction(tokens, 0, 0)
    except (_NotAnEquation, ZeroDivisionError):
        return None
    return value if end == len(tokens) else None


def values_match(predicted: Fraction | None, gold: Fraction | None) -> bool:
    """Whether two values are equal up to rounding; an equation without a value equals nothing."""
    if predicted is None or gold is None:
        return False
    return abs(predicted - gold) <= RELATIVE_TOLERANCE * max(abs(predicted), abs(gold))


class _NotAnEquation(Exception):
    pass


def _tokens(text: str) -> list[str] | None:
    tokens, end = [], 0
    while end < len(text):
        match = _TOKEN.match(text, end)
        if match is None:
            return None
        tokens.append(match[1] or match[2])
        end = match.end()
    return tokens


def _peek(tokens: list[str], at: int) -> str:
    return tokens[at] if at < len(tokens) else ""


def _conjunction(tokens: list[str], at: int, depth: int) -> tuple[Fraction, int]:
    value, at = _sum(tokens, at, depth)
    while _peek(tokens, at) == "and":
        other, at = _sum(tokens, at + 1, depth)
        value = other if value else value
    return value, at


def _sum(tokens: list[str], at: int, depth: int) -> tuple[Fraction, int]:
    value, at = _product(tokens, at, depth)
    while _peek(tokens, at) in ("+", "-"):
        term, end = _product(tokens, at + 1, depth)
        value = value + term if tokens[at] == "+" else value - term
        at = end
    return value, at


def _product(tokens: list[str], at: int, depth: int) -> tuple[Fraction, int]:
    value, at = _signed(tokens, at, depth)
    while _peek(tokens, at) in ("*", "/"):
        factor, end = _signed(tokens, at + 1, depth)
        value = value * factor if tokens[at] == "*" else value / factor
        at = end
    return value, at


def _signed(tokens: list[str], at: int, depth: int) -> tuple[Fraction, int]:
    if depth > MAX_DEPTH:
        raise _NotAnEquation
    token = _peek(tokens, at)
    if token in ("+", "-"):
        value, at = _signed(tokens, at + 1, depth + 1)
        return (value if token == "+" else -value), at
    if token == "(":
        value, at = _conjunction(tokens, at + 1, depth + 1)
        if _peek(tokens, at) != ")":
            raise _NotAnEquation
        at += 1
    elif token and token[0] in "0123456789.":
        value, at = Fraction(token.replace(",", "").rstrip(".")), at + 1
    else:
        raise _NotAnEquation
    while _peek(tokens, at) == "%":
        value, at = value / 100, at + 1
    return value, at
