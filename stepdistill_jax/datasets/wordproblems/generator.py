"""Arithmetic word problems made from templates, the same on every machine and Python version."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from stepdistill_jax.datasets.wordproblems.templates import (
    DISTRACTORS,
    HE,
    OBJECTS,
    SHE,
    STRUCTURES,
    TEMPLATES,
    Template,
)

SPLIT_SIZES = {"test": 500, "validation": 300, "train": 6000}  # in the order in which they are made
SEED = 20230503
LARGEST_NUMBER = 100  # of given numbers, intermediate results and answers alike
DISTRACTOR_SHARE = 0.35  # of the problems get one number that they do not need
_FACTOR = range(2, 13)  # factors and divisors: the times table
_AMOUNT = range(2, 61)
_WORDS = {"+": "plus", "-": "minus", "*": "times", "/": "divided by"}


@dataclass(frozen=True)
class WordProblem:
    """One problem.

    inputs          = 'Mia has 12 apples. She buys 5 more and gives 3 to Tom. How many apples does Mia have now?'
    label           = '( 12 + 5 ) - 3'       one space between tokens, every inner step in brackets
    worked_solution = 'Mia starts with 12 and gets 5 more, 12 + 5 = 17. Then 3 go away. 17 - 3 = 14. ...'
    template        = 'buy_then_give'
    """

    inputs: str
    label: str
    worked_solution: str
    template: str


class Draws:
    """A stream of random draws by SplitMix64 (Steele, Lea and Flood 2014), so that no library's version matters."""

    def __init__(self, seed: int):
        self._state = seed

    def _next(self) -> int:
        mask = (1 << 64) - 1
        self._state = (self._state + 0x9E3779B97F4A7C15) & mask
        bits = self._state
        bits = ((bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9) & mask
        bits = ((bits ^ (bits >> 27)) * 0x94D049BB133111EB) & mask
        return bits ^ (bits >> 31)

    def choose(self, options: Sequence):
        """One of `options`; the bias of the remainder is below 1e-16 for such short sequences."""
        return options[self._next() % len(options)]

    def happens(self, share: float) -> bool:
        """True in that share of the calls."""
        return self._next() < share * 2**64


def generate(split: str) -> list[WordProblem]:
    """The problems of 'train' (6,000), 'validation' (300) or 'test' (500), always the same ones in the same order.

    No text occurs twice, and no problem of validation or test shares its template together with its equation
    with any problem of another split: a student that remembers texts does not pass.
    """
    if split not in SPLIT_SIZES:
        raise ValueError(
            f"No split {split!r} in wordproblems; its splits are {', '.join(sorted(SPLIT_SIZES))}."
        )
    return list(_all_splits()[split])


@cache
def _all_splits() -> dict[str, tuple[WordProblem, ...]]:
    draws = Draws(SEED)
    texts: set[str] = set()
    taken: set[tuple[str, str]] = set()  # (template, label) of finished splits
    splits = {}
    for split, size in SPLIT_SIZES.items():
        problems: list[WordProblem] = []
        while len(problems) < size:
            problem = _make_problem(draws.choose(TEMPLATES), draws)
            if problem.inputs not in texts and (problem.template, problem.label) not in taken:
                texts.add(problem.inputs)
                problems.append(problem)
        taken.update((problem.template, problem.label) for problem in problems)
        splits[split] = tuple(problems)
    return splits


def _make_problem(template: Template, draws: Draws) -> WordProblem:
    numbers = _draw_numbers(STRUCTURES[template.structure], draws)
    fillers = _draw_fillers(template, draws) | numbers
    sentences = re.split(r"(?<=\.) ", draws.choose(template.stories).format(**fillers))
    sentences.append(draws.choose(template.questions).format(**fillers))
    steps = _calculations(STRUCTURES[template.structure], numbers)
    solution = template.solution.format(**fillers | steps)
    if draws.happens(DISTRACTOR_SHARE):
        sentence, unit = draws.choose(DISTRACTORS)
        needless = draws.choose([n for n in _AMOUNT if n not in numbers.values()])
        place = draws.choose((0, len(sentences) - 1))  # before the story or before the question
        sentences.insert(place, sentence.format(e=needless, **fillers))
        solution = f"The {needless} {unit.format(**fillers)} do not matter. {solution}"
    label = re.sub(r"[abcd]", lambda letter: str(numbers[letter.group()]), template.structure)
    return WordProblem(" ".join(sentences), label, solution, template.name)


def _draw_numbers(steps: tuple[str, ...], draws: Draws) -> dict[str, int]:
    """Different given numbers, with every division exact and every result in 2 … LARGEST_NUMBER."""
    letters = sorted(set(re.findall(r"[abcd]", " ".join(steps))))
    parsed = [_parse_step(step) for step in steps]
    factors = {letter for _, left, sign, right in parsed if sign == "*" for letter in (left, right)}
    factors |= {right for _, _, sign, right in parsed if sign == "/"}
    # A number that is divided at once may be as large as a result; small ones would leave few exact quotients.
    dividends = {left for _, left, sign, _ in parsed if sign == "/"}
    ranges = {
        letter: range(4, LARGEST_NUMBER + 1)
        if letter in dividends
        else _FACTOR
        if letter in factors
        else _AMOUNT
        for letter in letters
    }
    while True:
        numbers = {letter: draws.choose(ranges[letter]) for letter in letters}
        if len(set(numbers.values())) == len(letters) and _results(parsed, numbers) is not None:
            return numbers


def _parse_step(step: str) -> tuple[str, str, str, str]:
    result, _, left, sign, right = step.split()
    return result, left, sign, right


def _results(parsed: Sequence[tuple[str, str, str, str]], numbers: dict[str, int]) -> dict[str, int] | None:
    """Given numbers and results by letter, or None if a result is out of range or a division leaves a rest."""
    values = dict(numbers)
    for result, left, sign, right in parsed:
        a, b = values[left], values[right]
        if sign == "/" and a % b:
            return None
        values[result] = {"+": a + b, "-": a - b, "*": a * b, "/": a // b}[sign]
        if not 2 <= values[result] <= LARGEST_NUMBER:
            return None
    return values


def _calculations(steps: tuple[str, ...], numbers: dict[str, int]) -> dict[str, str]:
    """The calculation of each step, as {'x': '12 + 5 = 17', 'y': '17 * 3 = 51'}.

    A single step is told in words ('12 plus 5 is 17'), so that the solution never holds the whole label.
    """
    parsed = [_parse_step(step) for step in steps]
    values = _results(parsed, numbers)
    assert values is not None
    if len(parsed) == 1:
        [(result, left, sign, right)] = parsed
        return {result: f"{values[left]} {_WORDS[sign]} {values[right]} is {values[result]}"}
    return {
        result: f"{values[left]} {sign} {values[right]} = {values[result]}"
        for result, left, sign, right in parsed
    }


def _draw_fillers(template: Template, draws: Draws) -> dict[str, str]:
    """Names and objects, all different."""
    is_she = draws.choose((True, False))
    name = draws.choose(SHE if is_she else HE)
    other = draws.choose([n for n in SHE + HE if n != name])
    outsider = draws.choose([n for n in SHE + HE if n not in (name, other)])
    things = draws.choose(OBJECTS[template.objects])
    others = draws.choose([thing for thing in OBJECTS["toys"] if thing != things])
    pronouns = {"he": "she", "He": "She", "his": "her"} if is_she else {"he": "he", "He": "He", "his": "his"}
    return {"N": name, "M": other, "O": outsider, "things": things, "others": others, **pronouns}
