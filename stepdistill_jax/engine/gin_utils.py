"""Gin: reading a run's configuration, and errors in it as one line."""

import difflib
import inspect
import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gin

from stepdistill_jax.engine.run_folder import write_atomically

_NO_PARAMETER = re.compile(
    r"Configurable '(?P<configurable>[^']+)' doesn't have a parameter named '(?P<parameter>[^']+)'"
)
_PLACE = re.compile(r"(?P<place>In (?:file|bindings string).*line \d+)")


def default_search_paths() -> list[str]:
    """Where gin files are looked for after the user's own paths: the folder that holds gin/ and tasks/."""
    package = Path(__file__).resolve().parents[1]
    return [str(root) for root in (package.parent, package) if (root / "gin").is_dir()]


def rewrite_gin_args(args: Sequence[str]) -> list[str]:
    """`--gin.NAME=VALUE` as T5X takes it, to `--gin_bindings=NAME = VALUE`.

    Raises:
      ValueError: for a flag without a value.
    """
    rewritten = []
    for arg in args:
        if arg.startswith("--gin."):
            name, equals, value = arg.removeprefix("--gin.").partition("=")
            if not equals:
                raise ValueError(f"{arg}: give a value, e.g. --gin.{name}=\"'runs/my_run'\".")
            arg = f"--gin_bindings={name} = {value}"
        rewritten.append(arg)
    return rewritten


def parse_gin_flags(
    gin_search_paths: Sequence[str], gin_files: Sequence[str], gin_bindings: Sequence[str]
) -> None:
    """Reads gin files, then single bindings; later ones win.

    Raises:
      ValueError: one line that says what is wrong and where.
    """
    for path in gin_search_paths:
        gin.add_config_file_search_path(path)
    # Gin logs an error for every folder that a file is not in, found elsewhere or not.
    logging.disable(logging.ERROR)
    try:
        gin.parse_config_files_and_bindings(list(gin_files), list(gin_bindings))
    except OSError as error:
        raise ValueError(f"{_first_line(error)} Looked in {', '.join(gin_search_paths)}.") from error
    except (ValueError, RuntimeError, SyntaxError, ImportError, AttributeError, NameError) as error:
        raise ValueError(explain(error)) from error
    finally:
        logging.disable(logging.NOTSET)


def explain(error: Exception) -> str:
    """A gin error as one line, with the nearest parameter where one is unknown."""
    text = str(error)
    place = _PLACE.search(text)
    unknown = _NO_PARAMETER.search(text)
    if unknown:
        names = _parameter_names(unknown["configurable"])
        near = difflib.get_close_matches(unknown["parameter"], names, n=1, cutoff=0.0)
        message = (
            f"{unknown['configurable']} has no parameter '{unknown['parameter']}'"
            + (f"; nearest '{near[0]}'" if near else "")
            + "."
        )
    else:
        message = _first_line(error)
    return f"{message} {place['place']}." if place else message


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def _parameter_names(configurable: str) -> list[str]:
    try:
        wrapped: Any = gin.get_configurable(configurable)
    except ValueError:
        return []
    target = wrapped.__init__ if inspect.isclass(wrapped) else wrapped
    return [name for name in inspect.signature(inspect.unwrap(target)).parameters if name != "self"]


@gin.register
def summarize_gin_config(model_dir: str, summary_writer: Any, step: int) -> None:
    """Writes the configuration to model_dir/config.gin, and as text into TensorBoard if a writer is given."""
    text = gin.config_str()
    write_atomically(Path(model_dir) / "config.gin", text)
    if summary_writer is not None:
        summary_writer.write_texts(step, {"config": gin.markdown(text)})
        summary_writer.flush()
