"""JSON lines, JSON arrays and parquet files."""

import gzip
import json

import pyarrow
import pyarrow.parquet
import pytest

from stepdistill_jax.tables import TableError, open_table, text_of


def rows(table):
    return [(row.line, row.values) for row in table]


def test_an_object_a_line_with_blank_lines_between(write):
    table = open_table(write("a.jsonl", '\ufeff{"a": "x\u2028y", "b": 1}\r\n\n{"a": "z"}\n'))
    assert rows(table) == [(1, {"a": "x\u2028y", "b": 1}), (3, {"a": "z"})]
    assert (table.format, table.columns, table.delimiter) == ("jsonl", ("a", "b"), None)


def test_an_array_has_the_line_of_each_element(write):
    table = open_table(write("a.json", json.dumps([{"a": 1}, {"a": [2]}, {"a": "]"}], indent=1)))
    assert table.format == "json"
    assert rows(table) == [(2, {"a": 1}), (5, {"a": [2]}), (10, {"a": "]"})]


def test_a_json_file_of_an_object_a_line_is_read(write):
    assert open_table(write("a.json", '{"a": 1}\n{"a": 2}\n')).format == "jsonl"


def test_numbers_keep_their_spelling_and_texts_stay_texts(write):
    path = write("a.jsonl", '{"v": 1.10}\n{"v": 1.1}\n{"v": 1}\n{"v": true}\n{"v": "2024-01-02T03:04:05"}\n')
    assert [text_of(row.values["v"]) for row in open_table(path)] == [
        "1.10", "1.1", "1", "true", "2024-01-02T03:04:05",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "null"),
        ([1], "a list"),
        ({}, "an object"),
        (float("nan"), "NaN"),
        ("\ud800", "half of a character"),
        ("a\0b", "a NUL character"),
        (b"x", "bytes"),
    ],
)
def test_what_is_no_text_says_what_it_is(value, said):
    with pytest.raises(ValueError, match=said):
        text_of(value)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.jsonl", '{"a": 1}\n{"a": 2,}\n', ":2: not JSON: "),
        ("a.jsonl", '{"a": 1}\n[1]\n', ":2: [1] is no object"),
        ("a.jsonl", '{"a": 1, "a": 2}\n', ":1: not JSON: the key 'a' stands twice"),
        ("a.jsonl", "", ": empty"),
        ("a.json", "[]", ": empty"),
        ("a.json", '[{"a": 1}\n{"a": 2}]', ":1: not JSON: ',' or ']' is missing"),
        ("a.json", '[{"a": 1},\n{"a": }]', ":2: not JSON"),
        ("a.json", '[{"a": 1}', "is missing behind this element"),
        ("a.json", '[{"a": 1}] x', "'x' stands behind the array"),
        ("a.jsonl", '{"a": ' + "[" * 100_000 + "\n", ":1: not JSON"),
    ],
)
def test_what_is_malformed_is_one_line_with_its_place(write, name, content, said):
    path = write(name, content)
    with pytest.raises(TableError) as caught:
        rows(open_table(path))
    assert str(caught.value).startswith(f"{path}")
    assert said in str(caught.value)


def test_parquet_rows_are_numbered_and_keep_their_types(tmp_path):
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"t": ["x", None, "NA"], "n": [7, 8, 9]}), path)
    table = open_table(path)
    assert (table.format, table.columns, table.encoding) == ("parquet", ("t", "n"), None)
    assert rows(table) == [(1, {"t": "x", "n": 7}), (2, {"t": None, "n": 8}), (3, {"t": "NA", "n": 9})]


def test_what_is_no_parquet_file_is_named(write):
    with pytest.raises(TableError, match=r"a.parquet: not a parquet file"):
        open_table(write("a.parquet", "text,label\n"))


@pytest.mark.parametrize("name", ["a.parquet.gz", "a.parquet"])
def test_a_packed_parquet_file_is_to_be_unpacked(tmp_path, name):
    plain = tmp_path / "plain.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"t": ["x"]}), plain)
    (tmp_path / name).write_bytes(gzip.compress(plain.read_bytes()))
    with pytest.raises(TableError, match=rf"{name}: packed by gzip, .* unpack it\.$"):
        open_table(tmp_path / name)


def test_parquet_columns_of_one_name_are_named(tmp_path):
    path = tmp_path / "a.parquet"
    columns = [pyarrow.array([name]) for name in ("x", "y", "z")]
    pyarrow.parquet.write_table(pyarrow.Table.from_arrays(columns, names=["t", "label", "label"]), path)
    with pytest.raises(
        TableError, match=r"a.parquet: 2 columns have the name 'label'; the file has 't', 'label', 'label'"
    ):
        open_table(path)


def test_a_parquet_file_that_is_damaged_or_no_text_is_named(tmp_path):
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"t": [str(n) * 20 for n in range(4000)]}), path)
    content = bytearray(path.read_bytes())
    content[400:1200] = bytes(byte ^ 0xFF for byte in content[400:1200])
    path.write_bytes(content)
    with pytest.raises(TableError, match=r"a.parquet: damaged behind row 0: "):
        rows(open_table(path))
    half = pyarrow.array([b"\xff", b"y"])
    text = pyarrow.Array.from_buffers(pyarrow.string(), 2, half.buffers())
    pyarrow.parquet.write_table(pyarrow.table({"t": text}), path)
    with pytest.raises(TableError, match=r"a.parquet: damaged behind row 0: .*0xff"):
        rows(open_table(path))


def test_integers_keep_their_spelling_whatever_their_length(write):
    digits = "1" * 5000
    path = write("a.jsonl", f'{{"v": -0}}\n{{"v": {digits}}}\n{{"v": 12345678901234567890}}\n')
    assert [text_of(row.values["v"]) for row in open_table(path)] == ["-0", digits, "12345678901234567890"]


def test_what_the_first_object_lacks_may_stand_in_a_later_one(write):
    table = open_table(write("a.jsonl", '{"t": "x"}\n{"t": "y", "label": "a"}\n'))
    table.check_columns({"t": "--inputs t", "label": "--label label"})
    with pytest.raises(TableError, match=r"--id id: .* has no column 'id'; it has 't'"):
        table.check_columns({"id": "--id id"})
