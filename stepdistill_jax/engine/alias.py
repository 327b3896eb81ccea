"""The name `t5x` for our engine: an import alias, installed by our launchers and nowhere else.

T5X is on no package registry. Its users' gin files and model classes say `from t5x import models`; under our launchers
that name means `stepdistill_jax.engine`, under T5X's own it means T5X.
"""

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
import types
from pathlib import Path

_ENGINE = "stepdistill_jax.engine"
# T5X keeps its T5 networks among the examples; ours are part of the engine.
_PACKAGES = ("t5x.examples", "t5x.examples.t5", "t5x.examples.scalable_t5")
_ORIGIN = str(Path(__file__).with_name("__init__.py"))
_MODULES = {
    "t5x": _ENGINE,
    "t5x.examples.t5.network": f"{_ENGINE}.network",
    "t5x.examples.t5.layers": f"{_ENGINE}.layers",
    "t5x.examples.scalable_t5.network": f"{_ENGINE}.scalable_network",
    "t5x.examples.scalable_t5.layers": f"{_ENGINE}.layers",
}


class _EngineLoader(importlib.abc.Loader):
    """Gives the engine's module itself, so that `t5x.models is stepdistill_jax.engine.models`."""

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        if spec.name in _PACKAGES:
            return types.ModuleType(spec.name)
        module = importlib.import_module(_target(spec.name))
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: types.ModuleType) -> None:
        # The import system has put the alias's spec on the engine's module; its own goes back.
        original = module.__spec__.loader_state
        if original is not None:
            module.__spec__ = original


class _EngineFinder(importlib.abc.MetaPathFinder):
    def find_spec(self, fullname, path=None, target=None):
        if fullname != "t5x" and not fullname.startswith("t5x."):
            return None
        is_package = fullname in ("t5x", *_PACKAGES)
        if fullname.startswith("t5x.examples.") and not is_package and fullname not in _MODULES:
            return None
        if not is_package and importlib.util.find_spec(_target(fullname)) is None:
            return None
        # Gin looks for its files in packages, too, and wants to know where they lie.
        return importlib.machinery.ModuleSpec(
            fullname, _EngineLoader(), origin=_ORIGIN, is_package=is_package
        )


def _target(fullname: str) -> str:
    return _MODULES.get(fullname, fullname.replace("t5x", _ENGINE, 1))


def install() -> None:
    """Makes `import t5x` give the engine. Calling it again does nothing.

    Raises:
      RuntimeError: if another `t5x` has been imported already; one process runs on one engine.
    """
    if any(isinstance(finder, _EngineFinder) for finder in sys.meta_path):
        return
    loaded = sys.modules.get("t5x")
    if loaded is not None and loaded.__name__ != _ENGINE:
        raise RuntimeError(
            f"t5x is already imported from {getattr(loaded, '__file__', loaded)}; start through t5x/train.py or "
            "`stepdistill`, which install the engine first, or through T5X's own launcher."
        )
    sys.meta_path.insert(0, _EngineFinder())
