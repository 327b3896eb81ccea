import importlib
import subprocess
import sys
import types

import pytest

from stepdistill_jax.engine import alias

MODULES = (
    "models",
    "network",
    "partitioning",
    "trainer",
    "utils",
    "losses",
    "decoding",
    "adafactor",
    "gin_utils",
)


@pytest.mark.parametrize("name", MODULES)
def test_a_t5x_module_is_the_engine_s_own(name):
    theirs = importlib.import_module(f"t5x.{name}")
    ours = importlib.import_module(f"stepdistill_jax.engine.{name}")
    assert theirs is ours
    assert ours.__name__ == f"stepdistill_jax.engine.{name}"
    assert ours.__spec__.name == f"stepdistill_jax.engine.{name}"
    assert ours.__spec__.origin == ours.__file__


def test_t5x_keeps_its_network_among_the_examples():
    from t5x.examples.t5 import layers, network

    assert network is importlib.import_module("stepdistill_jax.engine.network")
    assert layers is importlib.import_module("stepdistill_jax.engine.layers")


def test_the_engine_s_own_spec_is_left_as_it_was():
    import t5x

    import stepdistill_jax.engine as engine

    assert t5x is engine
    assert engine.__spec__.name == "stepdistill_jax.engine"
    importlib.reload(importlib.import_module("t5x.schedules"))  # reads the spec


@pytest.mark.parametrize(
    "name",
    [
        "t5x.checkpoint_importer_x",
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
    code = (
        "from stepdistill_jax.engine import alias; alias.install(); import sys; print('jax' in sys.modules)"
    )
    root = alias.__file__.rsplit("/stepdistill_jax/", 1)[0]
    shown = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "False"
