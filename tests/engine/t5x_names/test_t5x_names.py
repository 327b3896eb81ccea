"""The table of docs/t5x.md of T5X's names is true: what it says is there can be imported, what it says is not cannot."""

import importlib
import re
from pathlib import Path

import pytest

TABLE = Path(__file__).resolve().parents[3] / "docs" / "t5x.md"
ROWS = re.findall(
    r"^\| (`t5x\..*?) \| (same|better|not there) \|", TABLE.read_text(encoding="utf-8"), re.MULTILINE
)
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
