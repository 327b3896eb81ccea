"""docs/teacher.md and the flags of `stepdistill teach`."""

import argparse
import re
from pathlib import Path

import pytest

from stepdistill_jax import cli

DOCUMENT = Path(__file__).parents[2] / "docs" / "teacher.md"


def flags(command: str) -> list[str]:
    subparsers = next(
        action for action in cli.parser_of(command)._actions if isinstance(action, argparse._SubParsersAction)
    )
    actions = subparsers.choices[command]._actions
    return [flag for action in actions for flag in action.option_strings if flag not in ("-h", "--help")]


@pytest.mark.parametrize("command", ["teach", "teach show", "teach serve"])
def test_every_flag_is_in_the_documentation(command):
    named = set(re.findall(r"(?<![\w-])--?[a-z]\w*", DOCUMENT.read_text(encoding="utf-8")))
    assert len(flags(command)) > 3
    assert set(flags(command)) <= named


def test_the_documentation_names_no_flag_that_there_is_not():
    document = DOCUMENT.read_text(encoding="utf-8")
    named = set(re.findall(r"`[^`\n]*`", document.partition("## All flags")[2].partition("## A teacher")[0]))
    mentioned = {flag for code in named for flag in re.findall(r"(?<![\w-])--[a-z]\w*", code)}
    known = {flag for command in ("teach", "teach show", "teach serve") for flag in flags(command)}
    assert mentioned <= known
