"""A table reads the same as Markdown, CSV and LaTeX, whatever its cells hold."""

import csv
import io
import re
import shutil
import subprocess

import pytest

from stepdistill_jax.report.style.table import (
    Cell,
    Column,
    Table,
    comma_separated,
    escape_latex,
    latex,
    markdown,
)

TABLE = Table(
    "methods",
    "Methods & seeds",
    "50 % of_the data",
    (Column("Method", "method", False), Column("Test (%)", "test")),
    (
        (Cell("a|b_c", "a|b_c"), Cell("61.2", 61.23456)),
        (Cell("[x] #1 {~^\\} ± λ −", "x"), Cell("–")),
    ),
)


def test_csv_has_full_precision_and_empty_cells_for_what_is_not_known():
    rows = list(csv.reader(io.StringIO(comma_separated(TABLE))))
    assert rows == [["method", "test"], ["a|b_c", "61.23456"], ["x", ""]]


def test_markdown_has_no_html_of_a_name():
    cells = (Cell("<img src=x onerror=alert(1)></td><!-- ", "x"), Cell("p < 0.05 and <5 rows"))
    text = markdown(Table("methods", "<b>Methods</b>", "<i>50</i> %", TABLE.columns, (cells,)))
    assert "&lt;img src=x onerror=alert(1)>&lt;/td>&lt;!--  | p < 0.05 and <5 rows |" in text
    assert not re.search(r"<[A-Za-z/!?]", text)


def test_markdown_escapes_its_separator_and_aligns_numbers():
    lines = markdown(TABLE).splitlines()
    assert lines[2:5] == ["| Method | Test (%) |", "| --- | ---: |", "| a\\|b_c | 61.2 |"]


def test_latex_has_no_character_of_its_own_unescaped():
    text = latex(TABLE)
    assert "a\\textbar{}b\\_c & 61.2 \\\\" in text
    assert "{[x] \\#1" in text
    assert "50 \\% of\\_the data" in text
    for command in ("\\toprule", "\\midrule", "\\bottomrule"):
        assert text.count(command) == 1
    body = text[text.index("\\midrule") : text.index("\\bottomrule")]
    assert len(re.findall(r"(?<!\\)&", body)) == 2
    assert not re.search(r"(?<!\\)[%#_]", body)
    assert text.count("{") - text.count("\\{") == text.count("}") - text.count("\\}")


def test_every_escape_stays_one_line():
    assert escape_latex("a\nb & 5 %") == "a b \\& 5 \\%"


def test_latex_compiles(tmp_path):
    if shutil.which("pdflatex") is None:
        pytest.skip("no pdflatex here; install TeX Live with booktabs to compile the table")
    document = f"\\documentclass{{article}}\\usepackage{{booktabs}}\\begin{{document}}{latex(TABLE)}\\end{{document}}"
    (tmp_path / "table.tex").write_text(document)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "table.tex"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, timeout=60)
    assert (tmp_path / "table.pdf").stat().st_size > 0
