"""The house keeps its rules: no crowded room, no endless module, and a broken contract is named."""

import ast
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "stepdistill_jax"
MOST_MODULES = 20
MOST_LINES = 450
USERS = ("bench", "tasks", "experiments", "t5x")  # folders that use the package
TEXT = {"datasets/wordproblems/templates.py"}  # read as data


def test_no_folder_holds_more_than_twenty_modules():
    folders = [PACKAGE, *(path for path in PACKAGE.rglob("*") if path.is_dir())]
    crowded = {
        str(folder): count for folder in folders if (count := len(list(folder.glob("*.py")))) > MOST_MODULES
    }
    assert len(folders) > 25
    assert crowded == {}


def test_every_module_can_be_read_in_one_sitting():
    lines = {
        path.relative_to(PACKAGE).as_posix(): len(path.read_text(encoding="utf-8").splitlines())
        for path in PACKAGE.rglob("*.py")
    }
    assert {name: count for name, count in lines.items() if count > MOST_LINES and name not in TEXT} == {}


def test_every_room_says_what_it_is_for():
    rooms = [path for path in PACKAGE.rglob("__init__.py") if path.parent != PACKAGE]
    assert all(path.read_text(encoding="utf-8").startswith('"""') for path in rooms)


def test_no_module_repeats_the_name_of_its_room():
    assert [path for path in PACKAGE.rglob("*.py") if path.stem == path.parent.name] == []


def test_no_function_or_class_is_there_for_tests_alone():
    code = [*PACKAGE.rglob("*.py"), *(path for room in USERS for path in (ROOT / room).rglob("*.py"))]
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in code}
    used = sum(map(names_used, trees.values()), Counter())
    said = "".join(
        path.read_text(encoding="utf-8") for path in [ROOT / "docs/t5x.md", *(ROOT / "gin").rglob("*.gin")]
    )
    used += Counter(re.findall(r"\w+", said))  # what T5X's users and gin files name
    kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    found = [(path, node) for path, tree in trees.items() for node in tree.body if isinstance(node, kinds)]
    unused = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
        for path, node in found
        if not node.name.startswith("__") and used[node.name] == names_used(node)[node.name]
    ]
    assert len(found) > 1000
    assert unused == []


def names_used(tree):
    """Name -> how often code of a tree refers to it: bare, behind a dot, or as a text of its own."""
    words = Counter()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            words[node.id] += 1
        elif isinstance(node, ast.Attribute):
            words[node.attr] += 1
        elif (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and re.fullmatch(r"[\w.]+", node.value)
        ):
            words[node.value.rpartition(".")[2]] += 1
    return words


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        (
            "stepdistill_jax/base/messages.py",
            "from stepdistill_jax.engine import train",
            "from the roof down",
        ),
        (
            "stepdistill_jax/engine/decode/beams.py",
            "from stepdistill_jax.engine.loop import progress",
            "engine's rooms",
        ),
        ("stepdistill_jax/engine/model/losses.py", "import tensorflow", "needs no TensorFlow"),
        ("tasks/svamp.py", "from stepdistill_jax.student import loss", "task file knows datasets only"),
    ],
)
def test_a_contract_that_is_broken_is_named(tmp_path, module, line, contract):
    linter = Path(sys.executable).with_name("lint-imports")
    if not linter.exists():
        pytest.skip("import-linter is not installed; pip install '.[dev]'")
    for folder in ("stepdistill_jax", "tasks"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    path = tmp_path / module
    path.write_text(f"{path.read_text(encoding='utf-8')}\n{line}\n", encoding="utf-8")
    done = subprocess.run(
        [str(linter), "--no-logo", "--no-cache"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stdout + done.stderr
    broken = [text for text in done.stdout.splitlines() if text.endswith("BROKEN")]
    assert any(contract in text for text in broken), broken
    assert module.removesuffix(".py").replace("/", ".") in done.stdout
