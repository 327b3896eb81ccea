"""A table as data, and its text: Markdown, CSV with full precision, and LaTeX with booktabs."""

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "|": r"\textbar{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "±": r"$\pm$", "λ": r"$\lambda$", "–": "--", "−": "$-$", "≥": r"$\geq$", "×": r"$\times$", "³": r"$^3$", "√": r"$\surd$", "·": r"$\cdot$",
}  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """One cell: what is read, the value behind it (for CSV and sorting), and links (text, address) to runs."""

    text: str
    value: Any = None
    links: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Column:
    """The head of a column, and its name in the CSV file."""

    title: str
    name: str
    is_number: bool = True


@dataclass(frozen=True)
class Table:
    """A table of the report; `caption` says what its numbers are."""

    name: str
    title: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    anchors: tuple[str, ...] = ()  # the id of each row on the page; () for none


def markdown(table: Table) -> str:
    """The table with its title and caption; `|` in a cell is escaped."""
    lines = [[column.title for column in table.columns], *([cell.text for cell in row] for row in table.rows)]
    text = ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]
    alignment = "| " + " | ".join("---:" if column.is_number else "---" for column in table.columns) + " |"
    return without_html(
        "\n".join([f"## {table.title}\n", *text[:1], alignment, *text[1:], "", table.caption]) + "\n"
    )


def without_html(page: str) -> str:
    """A page of Markdown whose names may hold HTML, as a run's may: what would begin a tag there is shown as it is written."""
    return re.sub(r"<(?=[A-Za-z/!?])", "&lt;", page)


def comma_separated(table: Table) -> str:
    """The values behind the cells; empty where one is not known."""
    output = io.StringIO()
    writer = csv.writer(output, lineterminator="\n")
    writer.writerow([column.name for column in table.columns])
    writer.writerows([cell.value for cell in row] for row in table.rows)
    return output.getvalue()


def latex(table: Table) -> str:
    r"""A `table*` for a document with \usepackage{booktabs}; its label is tab:NAME."""
    alignment = "".join("r" if column.is_number else "l" for column in table.columns)
    lines = [_latex_row([column.title for column in table.columns]), r"\midrule"]
    lines += [_latex_row([cell.text for cell in row]) for row in table.rows]
    body = "\n".join(f"    {line}" for line in [r"\toprule", *lines, r"\bottomrule"])
    return (
        "\\begin{table*}\n  \\centering\n"
        f"  \\caption{{{escape_latex(table.title)}. {escape_latex(table.caption)}}}\n"
        f"  \\label{{tab:{table.name}}}\n  \\footnotesize\\setlength{{\\tabcolsep}}{{3pt}}\n"
        f"  \\begin{{tabular}}{{{alignment}}}\n{body}\n  \\end{{tabular}}\n\\end{{table*}}\n"
    )


def _latex_row(cells: Sequence[str]) -> str:
    texts = [escape_latex(cell) for cell in cells]
    # A cell that begins with a bracket would be read as the argument of the \\ before it.
    return " & ".join(f"{{{text}}}" if text.startswith("[") else text for text in texts) + r" \\"


def escape_latex(text: str) -> str:
    r"""`text` with LaTeX's own characters escaped: 50 % -> 50 \%."""
    return "".join(_LATEX.get(character, character) for character in " ".join(text.split()))
