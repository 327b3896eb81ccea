"""Gin files without what they say of SeqIO's evaluator, for what evaluates nothing: reading them then needs no TensorFlow."""

import dataclasses
import fnmatch
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from gin import config_parser

# All that a run's files say of SeqIO where vocabularies and tasks are ours.
_OF_THE_EVALUATOR = ("seqio.Evaluator", "seqio.*Logger")


class NeedsSeqIO(Exception):
    """A gin file uses something of SeqIO, or of TensorFlow, that cannot be left out."""


@dataclasses.dataclass(frozen=True)
class _Reference:
    """@name in a value."""

    name: str


class _References(config_parser.ParserDelegate):
    """Leaves references in a value as they are written."""

    def configurable_reference(self, scoped_configurable_name: str, evaluate: bool) -> _Reference:
        return _Reference(scoped_configurable_name.rpartition("/")[2])

    def macro(self, macro_name: str) -> None:
        pass


def write_without_seqio(
    gin_files: Sequence[str], folders: Sequence[str], into: Path, *, left_out: Sequence[str] = ()
) -> list[str]:
    """Writes copies of gin files, and of what they include, that do not import SeqIO; returns their paths.

    Args:
      gin_files: as given to gin.
      folders: where gin looks for files, after the working directory.
      into: an empty folder.
      left_out: further modules that nothing is needed of, such as '__main__'.

    Raises:
      NeedsSeqIO: if they name anything of SeqIO but its evaluator and loggers.
      OSError: if a file is not there.
    """
    copies: dict[Path, Path] = {}

    def copy(file: str) -> str:
        path = next((path for folder in ("", *folders) if (path := Path(folder, file)).is_file()), Path(file))
        if path not in copies:
            copies[path] = into / f"{len(copies)}_{path.name}"
            text = _filtered(path.read_text(encoding="utf-8"), copy, {"seqio", *left_out})
            copies[path].write_text(text, encoding="utf-8")
        return str(copies[path])

    return [copy(file) for file in gin_files]


def _filtered(text: str, copy_of: Callable[[str], str], unwanted: set[str]) -> str:
    lines = text.splitlines()
    statements = list(config_parser.ConfigParser(text, _References()))
    imports = [statement for statement in statements if isinstance(statement, config_parser.ImportStatement)]
    names = {_called(statement): statement.module for statement in imports}
    kept: list[str] = []
    end = len(lines)
    for statement in reversed(statements):
        first = statement.location.line_num - 1
        own, end = lines[first:end], first
        if isinstance(statement, config_parser.IncludeStatement):
            own = [f"include {copy_of(statement.filename)!r}"]
        elif isinstance(statement, config_parser.ImportStatement):
            own = [] if statement.module.partition(".")[0] in unwanted else own
        else:
            about = [statement.selector, *_references(getattr(statement, "value", None))]
            modules = {_full_name(name, names) for name in about}
            if any(_root(name) == "seqio" and not _is_of_evaluator(name) for name in modules):
                raise NeedsSeqIO(own[0].strip())
            own = [] if any(_root(name) in unwanted for name in modules) else own
        kept[:0] = own
    return "\n".join([*lines[:end], *kept]) + "\n"


def _called(statement: config_parser.ImportStatement) -> str:
    """The name that an import statement gives its module."""
    last = statement.module.rpartition(".")[2] if statement.is_from else statement.module
    return statement.alias or last


def _references(value: Any) -> Iterator[str]:
    """The names of all references in a value."""
    if isinstance(value, _Reference):
        yield value.name
    elif isinstance(value, Mapping):
        for item in value.items():
            yield from _references(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _references(item)


def _root(name: str) -> str:
    return name.partition(".")[0]


def _full_name(name: str, names: Mapping[str, str]) -> str:
    """'script.train' -> '__main__.train' where '__main__' is imported as 'script'."""
    called, _, rest = name.partition(".")
    return f"{names[called]}.{rest}" if called in names else name


def _is_of_evaluator(name: str) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in _OF_THE_EVALUATOR)
