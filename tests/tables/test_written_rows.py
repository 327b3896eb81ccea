"""Rows written, and read again."""

import pytest

from stepdistill_jax.tables import RowWriter, TableError, open_table

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
