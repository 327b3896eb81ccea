"""What a gin file binds, read without importing what it configures."""

import dataclasses
from pathlib import Path
from typing import Any

from gin import config_parser


@dataclasses.dataclass(frozen=True)
class Reference:
    """`@name()` in a gin file."""

    name: str

    def __repr__(self) -> str:
        return f"@{self.name}"


@dataclasses.dataclass(frozen=True)
class _Macro:
    name: str

    def __repr__(self) -> str:
        return f"%{self.name}"


class _Names(config_parser.ParserDelegate):
    """Keeps references as names, so that a file is read without importing what it configures."""

    def configurable_reference(self, scoped_configurable_name: str, evaluate: bool) -> Reference:
        return Reference(scoped_configurable_name)

    def macro(self, macro_name: str) -> _Macro:
        return _Macro(macro_name)


def read_bindings(path: Path, *, fill_macros: bool = True) -> dict[str, Any]:
    """What a gin file itself binds, by the last two parts of the name ('T5Config.emb_dim', or a macro's 'VOCABULARY').

    Nothing is imported or called; files that it includes are not read. A scope stands in front ('infer/DatasetConfig.split').

    Args:
      fill_macros: whether macros that the file binds are filled in; else they stay '%NAME'.

    Raises:
      ValueError: if it is not gin.
    """
    bound: dict[str, Any] = {}
    try:
        for statement in config_parser.ConfigParser(path.read_text(encoding="utf-8"), _Names()):
            if isinstance(statement, config_parser.BindingStatement):
                name = "/".join(filter(None, (statement.scope, statement.selector.split(".")[-1])))
                bound[f"{name}.{statement.arg_name}" if statement.arg_name else name] = statement.value
    except SyntaxError as error:
        raise ValueError(f"{path} is no gin file: {error}.") from error
    if not fill_macros:
        return bound
    return {
        name: bound.get(value.name) if isinstance(value, _Macro) else value for name, value in bound.items()
    }
