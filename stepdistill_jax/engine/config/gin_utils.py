"""Gin: reading a run's configuration, and the functions that T5X's gin files call (`t5x.gin_utils`)."""

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gin

from stepdistill_jax.base import own_files
from stepdistill_jax.base.messages import nearest
from stepdistill_jax.base.whole_files import write_atomically
from stepdistill_jax.engine.config import gin_errors
from stepdistill_jax.engine.config.gin_flags import rewrite_gin_args

__all__ = [
    "bool_fn",
    "get_gin_config_str",
    "parse_gin_flags",
    "rewrite_gin_args",
    "string_split_fn",
    "sum_fn",
    "summarize_gin_config",
]

_MACRO = re.compile(r"^([A-Za-z_]\w*)\s*=", re.MULTILINE)
_AMBIGUOUS = re.compile(r"Ambiguous selector '(?P<selector>[^']+)', matches \[(?P<names>[^\]]*)\]")
# Macros of numbers that take a word, too.
_WORDS = {"NUM_MICROBATCHES": ("auto",), "EVAL_BATCH_SIZE": ("auto",)}
_MACRO_USE = re.compile(r"%([A-Za-z_]\w*)")
_PARSE_ERRORS = (ValueError, RuntimeError, SyntaxError, ImportError, AttributeError, NameError)

_search_paths: set[str] = set()


def default_search_paths() -> list[str]:
    """Where gin files are looked for after the user's own paths: the folder that holds gin/, and gin/ for T5X's paths.

    'gin/models/t5_1_1_xxl.gin' is below the former; 't5x/configs/runs/finetune.gin' below the latter.
    """
    root = own_files.root()
    return [str(root), str(root / "gin")]


def parse_gin_flags(
    gin_search_paths: Sequence[str],
    gin_files: Sequence[str],
    gin_bindings: Sequence[str],
    *,
    may_be_none: Sequence[str] = (),
) -> None:
    """Reads gin files, then single bindings; later ones win.

    Args:
      may_be_none: macros that may stay without a value though a file says that they are required.

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
        for macro in may_be_none:
            if re.search(rf"^{macro} = %gin.REQUIRED$", gin.config_str(), re.MULTILINE):
                gin.parse_config(f"{macro} = None")
        for binding in gin_bindings:
            place = f" In the binding '{binding}'."
            _parse_binding(binding)
        place = ""
        _check_macros(gin_bindings, of_files)
        gin.parse_config_files_and_bindings([], [])
    except OSError as error:
        raise ValueError(gin_errors.no_file(str(error), gin_files, gin_search_paths)) from error
    except _PARSE_ERRORS as error:
        place = place or gin_errors.unbound_macro(str(error), gin_files, gin_search_paths)
        raise ValueError(gin_errors.explain(error) + place) from error
    finally:
        logging.disable(logging.NOTSET)


def _parse_binding(binding: str) -> None:
    """Reads one binding; of several classes of its name, all registered in this process, it means the one that is configured.

    An earlier configuration may have been of t5x.examples.scalable_t5's network.T5Config, this one of t5x.examples.t5's.
    """
    macro = _MACRO.match(binding)
    before = _value_of(macro[1]) if macro else None
    try:
        gin.parse_config(binding)
        if macro:
            _check_kind(macro[1], before, _value_of(macro[1]))
    except KeyError as error:
        match = _AMBIGUOUS.search(str(error))
        if match is None:
            raise
        names = re.findall(r"'([^']+)'", match["names"])
        configured = [name for name in names if gin.get_bindings(name, resolve_references=False)]
        if len(configured) != 1:
            raise ValueError(
                f"'{match['selector']}' may be any of {', '.join(names)}; give the whole name."
            ) from error
        gin.parse_config(binding.replace(match["selector"], configured[0], 1))


def _value_of(macro: str) -> Any:
    """As it is bound; None if it is not."""
    try:
        return gin.query_parameter(f"%{macro}")
    except ValueError:
        return None


def _check_kind(macro: str, before: Any, now: Any) -> None:
    """A number stays a number, lengths by feature stay that, yes or no too; what is no literal may be anything."""
    literals = (int, float, str, list, tuple, dict)
    kinds = ((bool, int, "True or False"), (int | float, int | float, "a number"), (dict, dict, "a dict"))
    kind = next((kind for kind in kinds if isinstance(before, kind[0])), None)
    words = _WORDS.get(macro, ())
    if kind is not None and isinstance(now, literals) and not isinstance(now, kind[1]) and now not in words:
        or_word = "".join(f" or {word!r}" for word in words)
        raise ValueError(
            f"{macro} = {now!r}: give {kind[2]}{or_word}, as {before!r} is, which the gin files have."
        )


def _check_macros(gin_bindings: Sequence[str], of_files: set[str]) -> None:
    """Gin takes a macro that nothing uses without a word; one that the user gives and no file knows is a mistake."""
    known = of_files | set(_MACRO_USE.findall(gin.config_str()))
    for binding in gin_bindings:
        macro = _MACRO.match(binding)
        if macro and macro[1] not in known:
            raise ValueError(
                f"'{binding}': no gin file has or uses a macro '{macro[1]}'{nearest(macro[1], known)}."
            )


@gin.register
def summarize_gin_config(model_dir: str, summary_writer: Any, step: int) -> None:
    """Writes the configuration to model_dir/config.gin, and as text into TensorBoard if a writer is given."""
    text = gin.config_str()
    write_atomically(Path(model_dir) / "config.gin", text)
    if summary_writer is not None:
        summary_writer.write_texts(step, {"config": gin.markdown(text)})
        summary_writer.flush()


@gin.register
def get_gin_config_str(show_provenance: bool = False) -> str:
    """The configuration as text. `show_provenance` is taken for T5X's sake; gin on PyPI does not know it."""
    return gin.config_str()


@gin.register
def sum_fn(var1: Any = gin.REQUIRED, var2: Any = gin.REQUIRED) -> Any:
    """var1 + var2, for gin files."""
    return var1 + var2


@gin.register
def bool_fn(var1: Any = gin.REQUIRED) -> bool:
    """Whether `var1` is true, for gin files."""
    return bool(var1)


@gin.register
def string_split_fn(
    text: str = gin.REQUIRED, separator: str = gin.REQUIRED, maxsplit: int = -1, index: int | None = None
) -> list[str] | str:
    """The parts of a text, or one of them, for gin files."""
    parts = text.split(separator, maxsplit)
    return parts if index is None else parts[index]
