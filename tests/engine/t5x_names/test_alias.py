import importlib
import subprocess
import sys
import types

import pytest

from stepdistill_jax.engine.t5x_names import alias


@pytest.mark.parametrize(("name", "place"), alias.MODULES.items())
def test_a_t5x_module_is_the_engine_s_own(name, place):
    theirs = importlib.import_module(name)
    ours = importlib.import_module(place)
    assert theirs is ours
    assert ours.__name__ == ours.__spec__.name == place
    assert ours.__spec__.origin == ours.__file__


def test_t5x_is_a_module_of_its_own_so_that_no_room_is_hidden_behind_a_name_of_t5x():
    import t5x
    import t5x.train

    import stepdistill_jax.engine as engine

    assert t5x is not engine
    assert t5x.train is importlib.import_module("stepdistill_jax.engine.train")
    assert engine.__spec__.name == "stepdistill_jax.engine"


def test_the_engine_s_own_spec_is_left_as_it_was():
    module = importlib.reload(importlib.import_module("t5x.state_utils"))  # reads the spec
    assert module.__spec__.name == alias.MODULES["t5x.state_utils"]


@pytest.mark.parametrize(
    "name",
    [
        "t5x.checkpoint_importer_x",
        "t5x.draws",
        "t5x.examples.scalable_t5.hparams",
        "t5x.examples.t5.hparams",
        "t5x.models.inner",
    ],
)
def test_an_unknown_module_is_named_as_it_was_asked_for(name):
    with pytest.raises(ModuleNotFoundError, match=f"'{name}'"):
        importlib.import_module(name)


def test_installing_twice_is_installing_once():
    def finders():
        return [finder for finder in sys.meta_path if isinstance(finder, alias._EngineFinder)]

    assert len(finders()) == 1
    alias.install()
    assert len(finders()) == 1


def test_installing_after_our_own_t5x_was_imported_is_no_other_t5x(monkeypatch):
    importlib.import_module("t5x.models")
    others = [finder for finder in sys.meta_path if not isinstance(finder, alias._EngineFinder)]
    monkeypatch.setattr(sys, "meta_path", list(others))
    alias.install()
    assert len(sys.meta_path) == len(others) + 1


def test_another_t5x_in_the_process_is_refused(monkeypatch):
    others = [finder for finder in sys.meta_path if not isinstance(finder, alias._EngineFinder)]
    monkeypatch.setattr(sys, "meta_path", others)
    foreign = types.ModuleType("t5x")
    foreign.__file__ = "/elsewhere/t5x/__init__.py"
    monkeypatch.setitem(sys.modules, "t5x", foreign)
    with pytest.raises(
        RuntimeError, match=r"already imported from /elsewhere/t5x.*start through t5x/train.py"
    ):
        alias.install()
    assert sys.meta_path == others


def test_a_name_that_only_begins_with_t5x_is_left_alone():
    with pytest.raises(ModuleNotFoundError, match="'t5xtra'"):
        importlib.import_module("t5xtra")


def test_installing_imports_nothing_heavy():
    code = "from stepdistill_jax.engine.t5x_names import alias; alias.install(); import sys; print('jax' in sys.modules)"
    root = alias.__file__.rsplit("/stepdistill_jax/", 1)[0]
    shown = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "False"
