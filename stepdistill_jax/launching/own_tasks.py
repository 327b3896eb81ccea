"""Our dataset files, the folder tasks/ of a clone, as modules: loaded once, under two names.

`stepdistill_jax.tasks` is their own name, wherever they lie: beside the package in a clone, in it where it is installed.
`tasks` is their name in gin files and for whoever has a clone's root on the path, as T5X's own launcher needs it. Both names
give the same modules, whichever was imported first, so that no dataset is registered twice.

Another package `tasks` that Python finds first, such as that of the folder a user works in, keeps the name. It is not taken
for ours: `import tasks` gives it, in gin files too, and its datasets are known where something imports it. Ours are then
`stepdistill_jax.tasks` alone, and known all the same. The two never mix without a word, as a name that both register is an
error (`datasets.register`). A changed copy of our folder is such another package: take its new files out and name them in
$STEPDISTILL_TASKS.
"""

import importlib.machinery
import importlib.util
import sys
import types
from pathlib import Path

import stepdistill_jax
from stepdistill_jax.base import own_files

_OWN, _SHORT = "stepdistill_jax.tasks", "tasks"


def import_own_tasks() -> types.ModuleType:
    """Registers all our datasets, if they are not yet, and returns their package."""
    begin = own_files.root() / "tasks" / "__init__.py"
    loaded = [module for name in (_OWN, _SHORT) if _is_at(module := sys.modules.get(name), begin)]
    package = loaded[0] if loaded else _load(begin)
    _name_modules(package, _OWN)
    if _SHORT in sys.modules:
        if _is_at(sys.modules[_SHORT], begin):
            _name_modules(package, _SHORT)
    elif _is_free_or_at(begin):
        _name_modules(package, _SHORT)
    stepdistill_jax.tasks = package
    return package


def _load(begin: Path) -> types.ModuleType:
    """By place, not by search: in a clone no search finds `stepdistill_jax.tasks`, and one for `tasks` may find another's."""
    spec = importlib.util.spec_from_file_location(_OWN, begin, submodule_search_locations=[str(begin.parent)])
    package = importlib.util.module_from_spec(spec)
    sys.modules[_OWN] = package
    try:
        spec.loader.exec_module(package)
    except BaseException:
        del sys.modules[_OWN]
        raise
    return package


def _name_modules(package: types.ModuleType, name: str) -> None:
    """Makes `import name` and `import name.svamp` give the package's modules."""
    prefix = f"{package.__name__}."
    sys.modules.setdefault(name, package)
    for known, module in sys.modules.copy().items():
        if known.startswith(prefix):
            sys.modules.setdefault(f"{name}.{known.removeprefix(prefix)}", module)


def _is_free_or_at(begin: Path) -> bool:
    """Whether Python would find no `tasks`, or ours; a folder without __init__.py gives way to any package, so to ours."""
    spec = importlib.util.find_spec(_SHORT)
    return spec is None or spec.origin is None or Path(spec.origin).resolve() == begin


def _is_at(module: types.ModuleType | None, begin: Path) -> bool:
    file = getattr(module, "__file__", None)
    return file is not None and Path(file).resolve() == begin
