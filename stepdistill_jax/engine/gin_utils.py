"""Gin: reading a run's configuration, and errors in it as one line."""

import contextlib
import inspect
import logging
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import gin

from stepdistill_jax.engine.gin_flags import rewrite_gin_args
from stepdistill_jax.engine.nearest import nearest
from stepdistill_jax.engine.run_folder import write_atomically

__all__ = ["parse_gin_flags", "rewrite_gin_args", "summarize_gin_config"]

_NO_PARAMETER = re.compile(
    r"Configurable '(?P<configurable>[^']+)' doesn't have a parameter named '(?P<parameter>[^']+)'"
)
_UNEXPECTED = re.compile(r"got an unexpected keyword argument '(?P<parameter>[^']+)'")
_NO_VALUE = re.compile(r"missing \d+ required [a-z-]+ arguments?: (?P<names>[^\n]*)")
_REQUIRED = re.compile(r"^(?P<name>\S+?)(?P<macro>/macro\.value)? set to `%gin.REQUIRED`")
_UNBOUND = re.compile(r"^No bindings specified for '(?P<name>[^']+)/gin\.macro'")
_NO_FILE = re.compile(r"Unable to open file: (?P<file>.*?)\. Searched config paths")
_UNQUOTED = re.compile(r"malformed node or string|Failed to parse token|Unable to parse value")
_PLACE = re.compile(r'In file "(?P<file>[^"]+)", line (?P<line>\d+)')
_CALL = re.compile(r"\n  In call to configurable '(?P<configurable>[^']+)'")
_MACRO = re.compile(r"^([A-Za-z_]\w*)\s*=", re.MULTILINE)
_MACRO_USE = re.compile(r"%([A-Za-z_]\w*)")
_PARSE_ERRORS = (ValueError, RuntimeError, SyntaxError, ImportError, AttributeError, NameError)
# What a user can cause; the first kind that fits is raised again.
_KINDS = (FileNotFoundError, PermissionError, OSError, FloatingPointError, ValueError)

_search_paths: set[str] = set()


def default_search_paths() -> list[str]:
    """Where gin files are looked for after the user's own paths: the folder that holds gin/ and tasks/."""
    package = Path(__file__).resolve().parents[1]
    return [str(root) for root in (package.parent, package) if (root / "gin").is_dir()]


def parse_gin_flags(
    gin_search_paths: Sequence[str], gin_files: Sequence[str], gin_bindings: Sequence[str]
) -> None:
    """Reads gin files, then single bindings; later ones win.

    Raises:
      ValueError: one line that says what is wrong and where.
    """
    for path in gin_search_paths:
        if path not in _search_paths:
            gin.add_config_file_search_path(path)
            _search_paths.add(path)
    # Gin logs an error for every folder that a file is not in, found elsewhere or not.
    logging.disable(logging.ERROR)
    place = ""
    try:
        gin.parse_config_files_and_bindings(list(gin_files), [], finalize_config=False)
        of_files = set(_MACRO.findall(gin.config_str()))
        for binding in gin_bindings:
            place = f" In the binding '{binding}'."
            gin.parse_config(binding)
        place = ""
        _check_macros(gin_bindings, of_files)
        gin.parse_config_files_and_bindings([], [])
    except OSError as error:
        raise ValueError(_no_file(str(error), gin_search_paths)) from error
    except _PARSE_ERRORS as error:
        raise ValueError(explain(error) + place) from error
    finally:
        logging.disable(logging.NOTSET)


def _check_macros(gin_bindings: Sequence[str], of_files: set[str]) -> None:
    """Gin takes a macro that nothing uses without a word; one that the user gives and no file knows is a mistake."""
    known = of_files | set(_MACRO_USE.findall(gin.config_str()))
    for binding in gin_bindings:
        macro = _MACRO.match(binding)
        if macro and macro[1] not in known:
            raise ValueError(
                f"'{binding}': no gin file has or uses a macro '{macro[1]}'{nearest(macro[1], known)}."
            )


def _no_file(text: str, gin_search_paths: Sequence[str]) -> str:
    match = _NO_FILE.search(text)
    if match is None:
        return _one_line(text)
    folders = list(dict.fromkeys(gin_search_paths))
    there = {
        str(path.relative_to(folder)) for folder in folders for path in Path(folder).glob("gin/**/*.gin")
    }
    return f"No gin file '{match['file']}' in {', '.join(folders)}{nearest(match['file'], there)}."


def explain(error: Exception) -> str:
    """An error of gin's parser as one line, with its place, and the nearest parameter where one is unknown."""
    text = str(error)
    if match := _NO_PARAMETER.search(text):
        message = _no_parameter(match["configurable"], match["parameter"])
    elif match := _REQUIRED.search(text):
        flag = f"--gin.{match['name']}=…"
        message = f"{match['name']} is required and has no value; give {flag}, or bind it in a gin file."
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


@gin.register
def summarize_gin_config(model_dir: str, summary_writer: Any, step: int) -> None:
    """Writes the configuration to model_dir/config.gin, and as text into TensorBoard if a writer is given."""
    text = gin.config_str()
    write_atomically(Path(model_dir) / "config.gin", text)
    if summary_writer is not None:
        summary_writer.write_texts(step, {"config": gin.markdown(text)})
        summary_writer.flush()
