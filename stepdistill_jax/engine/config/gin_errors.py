"""Errors of a gin configuration as one line: what is wrong, the nearest name that there is, file and line."""

import contextlib
import errno
import importlib
import inspect
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import gin

from stepdistill_jax.base.folder_lock import FolderInUse
from stepdistill_jax.base.messages import nearest
from stepdistill_jax.engine.t5x_names import alias

_NO_PARAMETER = re.compile(
    r"Configurable '(?P<configurable>[^']+)' doesn't have a parameter named '(?P<parameter>[^']+)'"
)
_UNEXPECTED = re.compile(r"got an unexpected keyword argument '(?P<parameter>[^']+)'")
_NO_VALUE = re.compile(r"missing \d+ required [a-z-]+ arguments?: (?P<names>[^\n]*)")
_REQUIRED = re.compile(r"^(?P<name>\S+?)(?P<macro>/macro\.value)? set to `%gin.REQUIRED`")
_UNBOUND = re.compile(r"^No bindings specified for '(?P<name>[^']+)/gin\.macro'")
_NO_FILE = re.compile(r"Unable to open file: (?P<file>.*?)\. Searched config paths")
_NO_MODULE = re.compile(r"^No module named '(?P<module>[^']+)'")
_NO_NAME = re.compile(
    r"^Couldn't resolve selector (?P<selector>\S+); <(?:module|class) '(?P<owner>[^']+)'.*? has no attribute (?P<name>\w+)"
)
_NOT_IMPORTED = re.compile(r"^'(?P<name>[^']+)' was not provided by an import statement")
_NO_CONFIGURABLE = re.compile(r"^No configurable matching '(?:\S+/)?(?P<selector>[\w.]+)'")
_INCLUDE = re.compile(r"""^\s*include\s+['"](?P<file>[^'"]+)['"]""")
_UNQUOTED = re.compile(r"malformed node or string|Failed to parse token|Unable to parse value")
_PLACE = re.compile(r'In file "(?P<file>[^"]+)", line (?P<line>\d+)')
_CALL = re.compile(r"\n  In call to configurable '(?P<configurable>[^']+)'")
# What TensorFlow, which writes TensorBoard's files, says of a disk that takes no more.
_DISK_ERRORS = [
    os.strerror(number) for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
]
# What a user can cause; the first kind that fits is raised again.
_KINDS = (FolderInUse, FileNotFoundError, PermissionError, OSError, FloatingPointError, ValueError)

# Parts of T5X that are not here, and what is instead.
_NOT_THERE = {
    "t5x.export_lib": "there is no SavedModel export; `stepdistill convert` writes a Hugging Face folder",
    "t5x.interactive_model": "there is no InteractiveModel; `stepdistill_jax.launching.predictor` loads a checkpoint and predicts",
    "t5x.examples.decoder_only": "our decoder-only network is stepdistill_jax.engine.model.llama",
    "t5x.contrib": "of T5X's contrib there is nothing; its GPU models are those of t5x.examples.t5",
    "t5x.fiddle_configs": "configurations are gin files",
    "t5x.checkpoint_importer": "TensorFlow checkpoints are not read; convert the Hugging Face ones",
    "amos": "any Optax optimizer goes through optimizers.wrap_optax_optimizer",
}


def _lines(gin_files: Sequence[str], folders: Sequence[str]) -> Iterator[tuple[str, int, str]]:
    """(file, line number, line) of gin files and of what they include, as gin would find it."""
    waiting, seen = list(gin_files), set()
    while waiting:
        file = waiting.pop()
        path = next((path for folder in ("", *folders) if (path := Path(folder, file)).is_file()), None)
        if path is None or path in seen:
            continue
        seen.add(path)
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            if match := _INCLUDE.match(line):
                waiting.append(match["file"])
            yield str(path), number, line


def _place_of(pattern: str, gin_files: Sequence[str], folders: Sequence[str]) -> str:
    """ " In FILE, line N." of the first line that fits, or nothing."""
    for path, number, line in _lines(gin_files, folders):
        if re.search(pattern, line.partition("#")[0]):
            return f" In {path}, line {number}."
    return ""


def unbound_macro(text: str, gin_files: Sequence[str], folders: Sequence[str]) -> str:
    """Where a macro is used that no file binds, if that is what an error says; else nothing."""
    match = _UNBOUND.search(text)
    return _place_of(rf"%{re.escape(match['name'])}\b", gin_files, folders) if match else ""


def no_file(text: str, gin_files: Sequence[str], gin_search_paths: Sequence[str]) -> str:
    """Gin's error about a file that it did not find, with the nearest that there is, and where it is included."""
    match = _NO_FILE.search(text)
    if match is None:
        return _one_line(text)
    folders = list(dict.fromkeys(gin_search_paths))
    there = {
        str(path.relative_to(folder))
        for folder in folders
        for below in ("gin", "t5x")
        for path in Path(folder).glob(f"{below}/**/*.gin")
    }
    place = _place_of(rf"^\s*include\s+['\"]{re.escape(match['file'])}['\"]", gin_files, folders)
    return f"No gin file '{match['file']}' in {', '.join(folders)}{nearest(match['file'], there)}.{place}"


def _no_module(module: str) -> str:
    """A module that cannot be imported: T5X's that is not here, or a user's that is not installed."""
    if module.partition(".")[0] != "t5x":
        return f"No module '{module}'; install the package that has it, or put the folder that it lies in on PYTHONPATH."
    for name, instead in _NOT_THERE.items():
        if module == name or module.startswith(f"{name}."):
            return f"No module '{module}': {instead}."
    return f"No module '{module}'{nearest(module, alias.MODULES)}."


def _no_name(owner: str, name: str, selector: str) -> str:
    """A name that a module or class has not."""
    module = selector.rpartition(".")[0]
    if name in _NOT_THERE:
        return f"{module} has no '{name}': {_NOT_THERE[name]}."
    return f"{module} has no '{name}'{nearest(name, _public_names(owner))}."


def _public_names(owner: str) -> list[str]:
    """Names of a module, or of a class given as 'module.Class'."""
    if owner.endswith("__main__"):
        return ["train", "evaluate", "infer", "precompile", "create_task_from_tfexample_file"]
    module, _, attribute = owner.rpartition(".")
    try:
        value = importlib.import_module(owner)
    except ImportError:
        value = getattr(importlib.import_module(module), attribute)
    return [name for name in dir(value) if not name.startswith("_")]


def _not_imported(name: str) -> str:
    module = name.partition(".")[0]
    if f"t5x.{module}" in alias.MODULES:
        return f"'{name}' is used, but this file does not import it; add: from t5x import {module}."
    return f"'{name}' is used, but this file does not import it; add an import statement of its module."


def _no_configurable(selector: str) -> str:
    """A name of a file without `dynamic_registration`."""
    module, _, name = selector.rpartition(".")
    if f"t5x.{module}" in alias.MODULES:
        return _no_name(f"t5x.{module}", name, selector)
    return (
        f"No configurable '{selector}'; begin the file with 'from __gin__ import dynamic_registration' and import its "
        "module."
    )


def explain(error: Exception) -> str:
    """An error of gin's parser as one line, with its place, and the nearest parameter where one is unknown."""
    text = str(error)
    if match := _NO_PARAMETER.search(text):
        message = _no_parameter(match["configurable"], match["parameter"])
    elif match := _REQUIRED.search(text):
        flag = f"--gin.{match['name']}=…"
        message = f"{match['name']} is required and has no value; give {flag}, or bind it in a gin file."
    elif match := _NO_MODULE.search(text):
        message = _no_module(match["module"])
    elif match := _NO_NAME.search(text):
        message = _no_name(match["owner"], match["name"], match["selector"])
    elif match := _NOT_IMPORTED.search(text):
        message = _not_imported(match["name"])
    elif match := _NO_CONFIGURABLE.search(text):
        message = _no_configurable(match["selector"])
    elif match := _UNBOUND.search(text):
        message = (
            f"%{match['name']} is used, but no gin file binds {match['name']}; give --gin.{match['name']}=…"
        )
    elif isinstance(error, SyntaxError) and _UNQUOTED.search(text):
        message = "The value is no Python literal, @configurable or %MACRO; a text needs quotes of its own, \"'like this'\"."
    elif isinstance(error, SyntaxError):
        message = f"{error.msg}."
    else:
        message = _one_line(text.split("\n  In ")[0])
    if match := _PLACE.search(text):
        return f"{message} In {match['file']}, line {match['line']}."
    if isinstance(error, SyntaxError) and error.filename:
        return f"{message} In {error.filename}, line {error.lineno}."
    return message


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
    """Makes what goes wrong in a configured call one line, without the calls that gin adds to it.

    Raises:
      ValueError: also where gin gives a parameter that there is not, or lacks one that there must be.
      OSError: also where TensorFlow finds a disk full, or broken.
    """
    try:
        yield
    except (*_KINDS, TypeError) as error:
        text = str(error)
        call = _CALL.search(text)
        if call is None:
            raise
        message = _one_line(text[: call.start()])
        if isinstance(error, TypeError):
            if match := _UNEXPECTED.search(text):
                raise ValueError(_no_parameter(call["configurable"], match["parameter"])) from error
            if match := _NO_VALUE.search(text):
                raise ValueError(
                    f"{call['configurable']} has no value for {match['names']}; bind it in a gin file, and give that by --gin_file."
                ) from error
            raise
        kind = next(kind for kind in _KINDS if isinstance(error, kind))
        raise kind(message) from error
    except Exception as error:
        # TensorFlow's errors are none of Python's kinds: '{{node}} FILE; No space left on device'.
        text = str(error).split("\n")[0].rpartition("}} ")[2]
        if not any(text.endswith(f"; {cause}") for cause in _DISK_ERRORS):
            raise
        file, _, cause = text.rpartition("; ")
        raise OSError(
            f"{file} can't be written: {cause}. Make room, then start the same command again."
        ) from error


def _no_parameter(configurable: str, parameter: str) -> str:
    names = _parameter_names(configurable)
    return f"{configurable} has no parameter '{parameter}'{nearest(parameter, names)}."


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _parameter_names(configurable: str) -> list[str]:
    try:
        wrapped: Any = gin.get_configurable(configurable)
    except ValueError:
        return []
    # A class that hands **kwargs on takes its bases' parameters, too.
    functions = (
        [vars(cls)["__init__"] for cls in wrapped.__mro__ if "__init__" in vars(cls)]
        if inspect.isclass(wrapped)
        else [wrapped]
    )
    return [
        name
        for function in functions
        if function is not object.__init__
        for name, parameter in inspect.signature(inspect.unwrap(function)).parameters.items()
        if name != "self" and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
