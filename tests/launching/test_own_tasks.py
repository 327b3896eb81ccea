"""Our dataset files as modules: loaded once under both names, and never mistaken for a `tasks` of the user's."""

import importlib
import sys
from pathlib import Path

import pytest

import stepdistill_jax
from stepdistill_jax.base import own_files
from stepdistill_jax.launching import own_tasks

INIT = "import sys\n\nfrom . import riddles\n"
RIDDLES = """import sys

sys.loaded_riddles = [*getattr(sys, "loaded_riddles", ()), __name__]
"""


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A clone's root with one dataset file, which counts how often it runs; nothing of it is imported or on the path."""
    root = tmp_path / "clone"
    (root / "tasks").mkdir(parents=True)
    (root / "tasks" / "__init__.py").write_text(INIT)
    (root / "tasks" / "riddles.py").write_text(RIDDLES)
    monkeypatch.setattr(own_files, "root", lambda: root)
    before = {name: sys.modules.pop(name) for name in _names_of_tasks()}
    monkeypatch.setattr(stepdistill_jax, "tasks", None, raising=False)
    monkeypatch.setattr(sys, "loaded_riddles", [], raising=False)
    others = [folder for folder in sys.path if not (Path(folder) / "tasks").exists()]
    monkeypatch.setattr(sys, "path", others)
    # An editable install of before may know a `tasks`, too.
    finders = [finder for finder in sys.meta_path if "editable" not in getattr(finder, "__module__", "")]
    monkeypatch.setattr(sys, "meta_path", finders)
    importlib.invalidate_caches()
    yield root
    for name in _names_of_tasks():
        del sys.modules[name]
    sys.modules.update(before)


def _names_of_tasks():
    prefixes = ("tasks.", "stepdistill_jax.tasks.")
    return [name for name in sys.modules if f"{name}.".startswith(prefixes)]


def write_package(folder, text=""):
    (folder / "tasks").mkdir(parents=True)
    (folder / "tasks" / "__init__.py").write_text(text)
    importlib.invalidate_caches()


def put_on_path(folder):
    sys.path.insert(
        0, str(folder)
    )  # the fixture's list; pytest's own way would leave it for the tests that follow
    importlib.invalidate_caches()


def both_names_are(package):
    return all(
        importlib.import_module(f"{name}{module}") is getattr(package, module[1:], package)
        for name in ("tasks", "stepdistill_jax.tasks")
        for module in ("", ".riddles")
    )


def test_both_names_give_the_same_modules_where_the_path_has_no_tasks(root):
    package = own_tasks.import_own_tasks()
    assert both_names_are(package)
    assert stepdistill_jax.tasks is package
    assert sys.loaded_riddles == ["stepdistill_jax.tasks.riddles"]


def test_both_names_give_the_same_modules_where_the_clone_is_on_the_path(root):
    put_on_path(root)
    assert both_names_are(own_tasks.import_own_tasks())
    assert len(sys.loaded_riddles) == 1


def test_what_gin_or_t5x_has_imported_as_tasks_is_not_loaded_again(root):
    put_on_path(root)
    package = importlib.import_module("tasks")
    assert own_tasks.import_own_tasks() is package
    assert both_names_are(package)
    assert sys.loaded_riddles == ["tasks.riddles"]


def test_asking_again_loads_nothing(root):
    assert own_tasks.import_own_tasks() is own_tasks.import_own_tasks()
    assert len(sys.loaded_riddles) == 1


@pytest.mark.parametrize("imported_before", [True, False])
def test_another_package_tasks_keeps_its_name_and_ours_are_loaded_all_the_same(
    root, tmp_path, imported_before
):
    write_package(tmp_path / "user", "whose = 'the user'\n")
    put_on_path(tmp_path / "user")
    if imported_before:
        importlib.import_module("tasks")
    package = own_tasks.import_own_tasks()
    assert importlib.import_module("tasks").whose == "the user"
    assert importlib.import_module("stepdistill_jax.tasks") is package
    assert sys.loaded_riddles == ["stepdistill_jax.tasks.riddles"]
    with pytest.raises(ModuleNotFoundError, match=r"tasks\.riddles"):
        importlib.import_module("tasks.riddles")


def test_another_package_is_not_run_to_find_out_what_it_is(root, tmp_path):
    write_package(tmp_path / "user", "raise AssertionError('was run')\n")
    put_on_path(tmp_path / "user")
    assert own_tasks.import_own_tasks().__name__ == "stepdistill_jax.tasks"


def test_a_folder_tasks_without_python_files_does_not_take_the_name(root, tmp_path):
    (tmp_path / "user" / "tasks").mkdir(parents=True)
    put_on_path(tmp_path / "user")
    assert both_names_are(own_tasks.import_own_tasks())


def test_a_dataset_file_that_fails_leaves_no_half_package(root):
    (root / "tasks" / "riddles.py").write_text("raise RuntimeError('a riddle')\n")
    with pytest.raises(RuntimeError, match="a riddle"):
        own_tasks.import_own_tasks()
    assert "stepdistill_jax.tasks" not in sys.modules
    assert "tasks" not in sys.modules
