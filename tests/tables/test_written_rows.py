"""Rows written, and read again."""

import datetime
import decimal
import io
import json

import pytest

from stepdistill_jax.tables import Row, RowWriter, TableError, check_cells, open_table

CELLS = ["plain", "a,b;c\td", 'say "no"', "one\r\ntwo", "one\ntwo", "x\ry", "", " blank ", "Größe", "007"]


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl"])
def test_every_cell_comes_back_as_it_was(tmp_path, ending):
    path = tmp_path / f"a.{ending}"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = RowWriter(file, ["id", "text"], format=RowWriter.format_of(path))
        writer.write_header()
        for number, cell in enumerate(CELLS):
            writer.write({"text": cell, "id": str(number), "other": "left out"})
    assert [row.values["text"] for row in open_table(path)] == CELLS
    assert open_table(path).columns == ("id", "text")


def test_an_empty_cell_alone_in_its_row_is_a_row(tmp_path):
    path = tmp_path / "a.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = RowWriter(file, ["text"], format="csv", delimiter=";")
        writer.write_header()
        writer.write({"text": None})
        writer.write({"text": [1, "x"]})
    assert [row.values["text"] for row in open_table(path)] == ["", '[1, "x"]']


def test_a_kind_that_is_not_written_is_named(tmp_path):
    with pytest.raises(TableError, match=r"--output .*a.parquet: written are .csv"):
        RowWriter.format_of(tmp_path / "a.parquet")


def line_of(value, format):
    """What a row of this one value is written as."""
    file = io.StringIO()
    RowWriter(file, ["v"], format=format).write({"v": value})
    return file.getvalue().removesuffix("\n")


@pytest.mark.parametrize("number", ["1.10", "1E2", "12345678901234567890.5", "1e400", "-0.0"])
def test_a_number_keeps_its_spelling_wherever_it_stands(tmp_path, number):
    path = tmp_path / "a.jsonl"
    path.write_text(f'{{"v": {number}, "w": {{"x": [{number}]}}}}\n', encoding="utf-8")
    [row] = open_table(path)
    assert line_of(row.values["v"], "jsonl") == f'{{"v": {number}}}'
    assert line_of(row.values["v"], "csv") == number
    assert line_of(row.values["w"], "jsonl") == f'{{"v": {{"x": [{number}]}}}}'


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        (datetime.datetime(2024, 1, 2, 3, 4), "2024-01-02T03:04:00"),
        (datetime.date(2024, 1, 2), "2024-01-02"),
        (datetime.timedelta(days=1), "1 day, 0:00:00"),
        (b"\xff\x00", "/wA="),
    ],
)
def test_what_json_has_no_form_for_is_a_text(value, cell):
    assert line_of(value, "csv") in (cell, f'"{cell}"')
    assert json.loads(line_of(value, "jsonl")) == {"v": cell}
    assert json.loads(line_of([value, {"at": value}], "jsonl")) == {"v": [cell, {"at": cell}]}


def test_what_is_no_number_and_decimals_are_written():
    assert line_of(float("nan"), "csv") == line_of(float("nan"), "tsv") == "NaN"
    assert line_of(float("inf"), "jsonl") == '{"v": Infinity}'
    assert line_of(decimal.Decimal("1.10"), "jsonl") == '{"v": 1.10}'
    assert line_of([None, True, "ä"], "csv") == '"[null, true, ""ä""]"'


@pytest.mark.parametrize(("value", "said"), [("a\ud83d", "half of a character"), ("a\0b", "a NUL character")])
def test_what_a_cell_cannot_hold_is_named_and_json_holds_it(value, said):
    with pytest.raises(TableError, match=f"line 3: 'v' is .*{said}.*--output be a .jsonl"):
        check_cells(Row(3, {"v": value}))
    assert json.loads(line_of(value, "jsonl")) == {"v": value}
