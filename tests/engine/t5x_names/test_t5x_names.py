"""The table of docs/t5x.md of T5X's names is true: what it says is there can be imported, what it says is not cannot."""

import ast
import dataclasses
import importlib
import inspect
import re
import textwrap
from pathlib import Path

import pytest

from stepdistill_jax.engine.t5x_names import alias

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "t5x.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| (`t5x\..*?) \| (same|better|not there) \|", PAGE, re.MULTILINE)
SETTINGS = PAGE.partition("## Settings that do nothing")[2].partition("\n## ")[0]
# What the engine gives, not settings: no one sets their fields.
RESULTS = {"DataLayout", "LocalChunkInfo"}
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


def public_names_of_t5x():
    """Our functions and classes under T5X's module names."""
    for module in map(importlib.import_module, sorted(set(alias.MODULES.values()))):
        for name, value in vars(module).items():
            ours = str(getattr(value, "__module__", "")).startswith("stepdistill_jax.engine")
            if ours and not name.startswith("_") and name not in RESULTS:
                yield name, value


def idle_arguments(function):
    """The arguments of a function that its body does not read."""
    definition = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    read = {
        node.id for statement in definition.body for node in ast.walk(statement) if isinstance(node, ast.Name)
    }
    given = (*definition.args.posonlyargs, *definition.args.args, *definition.args.kwonlyargs)
    return {argument.arg for argument in given if not argument.arg.startswith("_")} - read


def test_every_argument_that_no_body_reads_is_in_the_table():
    idle = {
        f"{name}({argument})"
        for name, value in public_names_of_t5x()
        if inspect.isfunction(value) and hasattr(value, "__code__") and not hasattr(value, "__wrapped__")
        for argument in idle_arguments(value)
    }
    assert len(idle) > 10
    assert {of for of in idle if not re.search(rf"\b{of.partition('(')[2][:-1]}\b", SETTINGS)} == set()


def test_every_field_that_nothing_reads_is_in_the_table():
    read = {
        node.attr
        for path in (ROOT / "stepdistill_jax").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)
    }
    idle = {
        f"{name}.{field.name}"
        for name, value in public_names_of_t5x()
        if dataclasses.is_dataclass(value)
        for field in dataclasses.fields(value)
        if field.name not in read
    }
    assert len(idle) > 5
    assert {of for of in idle if not re.search(rf"\b{of.partition('.')[2]}\b", SETTINGS)} == set()
