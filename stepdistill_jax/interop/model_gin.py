"""What a gin file says of a network, read without importing what it configures."""

import dataclasses
from pathlib import Path
from typing import Any

from gin import config_parser


@dataclasses.dataclass(frozen=True)
class Reference:
    """`@name()` in a gin file."""

    name: str


@dataclasses.dataclass(frozen=True)
class _Macro:
    name: str


class _Names(config_parser.ParserDelegate):
    """Keeps references as names, so that a file is read without importing what it configures."""

    def configurable_reference(self, scoped_configurable_name: str, evaluate: bool) -> Reference:
        return Reference(scoped_configurable_name)

    def macro(self, macro_name: str) -> _Macro:
        return _Macro(macro_name)


def read_bindings(path: Path) -> dict[str, Any]:
    """What a gin file itself binds, by the last two parts of the name ('T5Config.emb_dim', or a macro's 'VOCABULARY').

    Nothing is imported or called; macros that the file binds are filled in; files that it includes are not read.

    Raises:
      ValueError: if it is not gin.
    """
    bound: dict[str, Any] = {}
    try:
        for statement in config_parser.ConfigParser(path.read_text(encoding="utf-8"), _Names()):
            if isinstance(statement, config_parser.BindingStatement):
                name = statement.selector.split(".")[-1]
                bound[f"{name}.{statement.arg_name}" if statement.arg_name else name] = statement.value
    except SyntaxError as error:
        raise ValueError(f"{path} is no gin file: {error}.") from error
    return {
        name: bound.get(value.name) if isinstance(value, _Macro) else value for name, value in bound.items()
    }
