"""What the student and the teacher read of a row."""

import re
from collections.abc import Sequence

from stepdistill_jax.base.visible import is_blank
from stepdistill_jax.tables.errors import TableError
from stepdistill_jax.tables.rows import Row
from stepdistill_jax.tables.values import text_of

# Doubled braces are braces; between single ones stands a column's name, whatever else it holds.
_PIECE = re.compile(r"(\{\{|\}\})|\{([^{}]+)\}|([{}])")


class Inputs:
    """A template of a row's columns: '{subject}\\n{body}', or the columns alone, 'subject,body', a line for each.

    A '\\n' or '\\t' of two characters, as a shell passes it on, is a line break or a tab. Braces in values are text.
    """

    def __init__(self, template_or_columns: str | Sequence[str]) -> None:
        """Reads the template.

        Raises:
          TableError: for a brace that is not closed, or a template that names no column.
        """
        if not isinstance(template_or_columns, str):
            template_or_columns = ",".join(template_or_columns)
        if not re.search("[{}]", template_or_columns):
            names = [name.strip() for name in template_or_columns.split(",") if name.strip()]
            template_or_columns = "\n".join(f"{{{name}}}" for name in names)
        self.template = template_or_columns.replace("\\n", "\n").replace("\\t", "\t")
        self._pieces = _pieces(self.template)
        self.columns = tuple(dict.fromkeys(name for name, _ in self._pieces if name))
        if not self.columns:
            raise TableError(
                f"--inputs {self.template!r} names no column; give a template such as '{{subject}}\\n{{body}}', or columns "
                f"such as subject,body."
            )

    def text(self, row: Row) -> str:
        """The text of a row; '' where all its cells are blank, whatever stands between them.

        Raises:
          TableError: names the row and the column that is not there, or holds no text (null, a list, NaN).
        """
        cells = {name: cell_of(row, name) for name in self.columns}
        if all(map(is_blank, cells.values())):
            return ""
        return "".join(cells[name] if name else text for name, text in self._pieces)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Inputs) and self.template == other.template

    def __hash__(self) -> int:
        return hash(self.template)


def cell_of(row: Row, column: str) -> str:
    """A cell's text.

    Raises:
      TableError: names the row and the column that is not there, or holds no text.
    """
    try:
        return text_of(row.values[column])
    except KeyError:
        reason = f"there is no {column!r}"
    except ValueError as error:
        reason = f"{column!r} is {error}"
    raise TableError(f"{row.place}: {reason}.", reason=reason)


def _pieces(template: str) -> list[tuple[str, str]]:
    """(column, '') or ('', text), in order."""
    pieces, begin = [], 0
    for found in _PIECE.finditer(template):
        brace, name, stray = found.groups()
        if stray:
            raise TableError(
                f"--inputs {template!r}: a {stray!r} without its other half; write {stray * 2} for a brace that is text."
            )
        pieces += [("", template[begin : found.start()]), (name, "") if name else ("", brace[0])]
        begin = found.end()
    return [*pieces, ("", template[begin:])]
