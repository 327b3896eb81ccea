"""The table of docs/t5x.md of T5X's names is true: what it says is there can be imported, what it says is not cannot."""

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "t5x.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| (`t5x\..*?) \| (same|better|not there) \|", PAGE, re.MULTILINE)
SETTINGS = PAGE.partition("## Settings that do nothing")[2].partition("\n## ")[0]
# 'name, other: taken for T5X's sake', as docstrings have it
TAKEN = re.compile(r"^ +([a-z_]+(?:, [a-z_]+)*): (?:taken for T5X's sake|not used)", re.MULTILINE)
NAMES = [(name, state) for names, state in ROWS for name in re.findall(r"`([^`]+)`", names)]


def resolve(name):
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        module, _, attribute = name.rpartition(".")
        return getattr(importlib.import_module(module), attribute)


def test_the_table_has_rows_of_every_state():
    assert {state for _, state in NAMES} == {"same", "better", "not there"}
    assert len(NAMES) > 80


@pytest.mark.parametrize(("name", "state"), NAMES)
def test_a_name_is_there_or_not_as_the_table_says(name, state):
    if state == "not there":
        with pytest.raises((ImportError, AttributeError)):
            resolve(name)
    else:
        assert resolve(name) is not None


def test_every_setting_that_a_docstring_calls_idle_is_in_the_table():
    taken = {
        name
        for path in (ROOT / "stepdistill_jax" / "engine").rglob("*.py")
        for names in TAKEN.findall(path.read_text(encoding="utf-8"))
        for name in names.split(", ")
    }
    assert len(taken) > 15
    assert {name for name in taken if not re.search(rf"\b{name}\b", SETTINGS)} == set()
