"""The name `t5x` for our engine: an import alias, installed by our launchers and nowhere else.

T5X is on no package registry. Its users' gin files and model classes say `from t5x import models`; under our launchers
that name means a module of `stepdistill_jax.engine`, under T5X's own it means T5X. `MODULES` is the whole table.
"""

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
import types
from pathlib import Path

_ENGINE = "stepdistill_jax.engine"
# Our packages of T5X's names, which hold nothing themselves. T5X keeps its T5 networks among the examples.
PACKAGES = ("t5x", "t5x.examples", "t5x.examples.t5", "t5x.examples.scalable_t5")
# T5X's module -> ours. What is not here is not there, as under T5X: `t5x.draws` is an error.
MODULES = {
    "t5x.adafactor": f"{_ENGINE}.optim.adafactor",
    "t5x.checkpoints": f"{_ENGINE}.t5x_names.checkpoints",
    "t5x.decoding": f"{_ENGINE}.decode.decoding",
    "t5x.eval": f"{_ENGINE}.eval",
    "t5x.gin_utils": f"{_ENGINE}.config.gin_utils",
    "t5x.infer": f"{_ENGINE}.infer",
    "t5x.losses": f"{_ENGINE}.model.losses",
    "t5x.metrics": f"{_ENGINE}.model.metrics",
    "t5x.models": f"{_ENGINE}.model.models",
    "t5x.optimizers": f"{_ENGINE}.optim.optimizers",
    "t5x.partitioning": f"{_ENGINE}.partition.partitioning",
    "t5x.precompile": f"{_ENGINE}.precompile",
    "t5x.state_utils": f"{_ENGINE}.checkpoint.state_utils",
    "t5x.train": f"{_ENGINE}.train",
    "t5x.train_state": f"{_ENGINE}.optim.train_state",
    "t5x.trainer": f"{_ENGINE}.t5x_names.trainer",
    "t5x.utils": f"{_ENGINE}.t5x_names.utils",
    "t5x.examples.scalable_t5.layers": f"{_ENGINE}.model.layers",
    "t5x.examples.scalable_t5.network": f"{_ENGINE}.model.scalable_network",
    "t5x.examples.t5.layers": f"{_ENGINE}.model.layers",
    "t5x.examples.t5.network": f"{_ENGINE}.model.network",
}
# What config.gin of a run of version 0.1 imports by its place of then.
EARLIER = {"stepdistill_jax.engine.gin_utils": f"{_ENGINE}.config.gin_utils"}
_ORIGIN = str(Path(__file__).parents[1] / "__init__.py")


class _EngineLoader(importlib.abc.Loader):
    """Gives the engine's module itself, so that `t5x.models is stepdistill_jax.engine.model.models`."""

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        if spec.name in PACKAGES:
            return types.ModuleType(spec.name)
        module = importlib.import_module({**MODULES, **EARLIER}[spec.name])
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: types.ModuleType) -> None:
        # The import system has put the alias's spec on the engine's module; its own goes back.
        original = module.__spec__.loader_state
        if original is not None:
            module.__spec__ = original


class _EngineFinder(importlib.abc.MetaPathFinder):
    def find_spec(self, fullname, path=None, target=None):
        if fullname not in PACKAGES and fullname not in MODULES and fullname not in EARLIER:
            return None
        # Gin looks for its files in packages, too, and wants to know where they lie.
        return importlib.machinery.ModuleSpec(
            fullname, _EngineLoader(), origin=_ORIGIN, is_package=fullname in PACKAGES
        )


def install() -> None:
    """Makes `import t5x` give the engine. Calling it again does nothing.

    Raises:
      RuntimeError: if another `t5x` has been imported already; one process runs on one engine.
    """
    if any(isinstance(finder, _EngineFinder) for finder in sys.meta_path):
        return
    loaded = sys.modules.get("t5x")
    if loaded is not None and not isinstance(getattr(loaded, "__loader__", None), _EngineLoader):
        raise RuntimeError(
            f"t5x is already imported from {getattr(loaded, '__file__', loaded)}; start through t5x/train.py or "
            "`stepdistill`, which install the engine first, or through T5X's own launcher."
        )
    sys.meta_path.insert(0, _EngineFinder())
