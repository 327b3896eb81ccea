"""csv, tsv and txt files as spreadsheets and databases write them."""

import bz2
import gzip
import os

import pytest

from stepdistill_jax.tables import TableError, open_table

PLAIN = 'subject,body,queue\nLamp,It flickers,repair\nKettle,"Too small, really",return\n'


def values(table):
    return [row.values for row in table]


def test_cells_are_texts_with_the_line_that_their_row_begins_on(write):
    table = open_table(write("a.csv", 'subject,body\nLamp,"one\ntwo"\n\nKettle,three\n'))
    assert [(row.line, row.values["body"]) for row in table] == [(2, "one\ntwo"), (5, "three")]
    assert (table.format, table.delimiter, table.columns) == ("csv", ",", ("subject", "body"))


def test_a_table_can_be_read_twice(write):
    table = open_table(write("a.csv", PLAIN))
    assert values(table) == values(table) != []


def test_a_mark_and_semicolons_of_a_spreadsheet_are_seen(write):
    path = write("a.csv", "\ufeffsubject;body\r\nLamp;Small, and old\r\nCup;Big, new, red\r\n")
    table = open_table(path)
    assert (table.delimiter, table.columns) == (";", ("subject", "body"))
    assert values(table)[0] == {"subject": "Lamp", "body": "Small, and old"}


def test_a_quoted_header_behind_a_mark_is_read(write):
    assert open_table(write("a.csv", '\ufeff"text","label"\nx,y\n')).columns == ("text", "label")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_utf_16_is_read_by_its_mark(write, encoding):
    mark = "\ufeff" if encoding.endswith("e") else ""
    table = open_table(write("a.txt", f"{mark}text\tlabel\r\nGröße\tzu klein\r\n", encoding))
    assert (table.format, table.delimiter) == ("tsv", "\t")
    assert values(table) == [{"text": "Größe", "label": "zu klein"}]


def test_utf_16_without_a_mark_is_named(write):
    with pytest.raises(TableError, match=r"as in UTF-16; give --encoding utf-16-le"):
        open_table(write("a.csv", "text,label\nx,y\n", "utf-16-le"))
    path = write("b.csv", "text,label\nx,y\n", "utf-16-le")
    assert values(open_table(path, encoding="utf-16-le")) == [{"text": "x", "label": "y"}]


def test_the_delimiter_is_what_divides_all_rows_alike(write):
    text = 'text;label\nfirst, second;a\n"\tDoe;Jane";b\none, two, three;a\n'
    table = open_table(write("a.csv", text))
    assert table.delimiter == ";"
    assert [row.values["text"] for row in table] == ["first, second", "\tDoe;Jane", "one, two, three"]


def test_a_given_delimiter_and_a_first_line_that_says_it_are_taken(write):
    path = write("a.csv", "a|b,c|d\n1|2,3|4\n")
    assert open_table(path, delimiter="|").columns == ("a", "b,c", "d")
    said = open_table(write("b.csv", "sep=;\r\na;b,c\r\n1;2,3\r\n"))
    assert (said.delimiter, said.columns) == (";", ("a", "b,c"))
    assert [(row.line, row.values["a"]) for row in said] == [(3, "1")]
    with pytest.raises(TableError, match="--delimiter ';;'"):
        open_table(path, delimiter=";;")


def test_one_column_is_a_table(write):
    assert values(open_table(write("a.txt", "text\nhello\nworld\n"))) == [
        {"text": "hello"},
        {"text": "world"},
    ]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_ends_of_every_system_end_rows_and_stay_within_quotes(write, end):
    table = open_table(write("a.csv", end.join(["a,b", '"x\n\r\ny\u2028\x85z",1', "w,2", ""])))
    assert [row.values["a"] for row in table] == ["x\n\r\ny\u2028\x85z", "w"]


def test_texts_that_look_like_numbers_or_nothing_stay_texts(write):
    cells = ["007", "7", "1.0", "1", "TRUE", "true", "NA", "None", "null", "nan", "N/A", ""]
    table = open_table(write("a.csv", "n,label\n" + "".join(f"{i},{c}\n" for i, c in enumerate(cells))))
    assert [row.values["label"] for row in table] == cells


def test_a_long_cell_is_read(write):
    table = open_table(write("a.csv", f'text,label\n"{"word " * 40_000}",x\n'))
    assert len(values(table)[0]["text"]) == 200_000


def test_a_packed_file_is_read_whatever_its_name(write):
    packed = gzip.compress(PLAIN.encode())
    for name in ("a.csv.gz", "b.csv"):
        assert len(values(open_table(write(name, packed)))) == 2
    with pytest.raises(TableError, match=r"cut.csv.gz: gzip cannot unpack it"):
        values(open_table(write("cut.csv.gz", packed[:-12])))


def test_another_encoding_is_named_with_its_place_and_read_when_told(write):
    path = write("a.csv", "text,label\nfine,x\nGröße,y\n", "cp1252")
    with pytest.raises(TableError) as caught:
        values(open_table(path))
    assert "a.csv: not UTF-8 at byte 21, line 3; it looks like cp1252" in str(caught.value)
    assert "Größe" in str(caught.value)
    assert values(open_table(path, encoding="cp1252"))[1] == {"text": "Größe", "label": "y"}
    with pytest.raises(TableError, match="--encoding klingon: no such encoding"):
        open_table(path, encoding="klingon")


def test_a_file_in_two_encodings_is_told(write):
    path = write("a.csv", "text,label\nGröße,x\n".encode() + "Öse,y\n".encode("cp1252"))
    with pytest.raises(TableError) as caught:
        values(open_table(path))
    assert "at byte 22, line 3; it looks like cp1252 ('Öse,y' there), but 'Größe'" in str(caught.value)
    assert "in two encodings: save it anew" in str(caught.value)
    assert "--encoding" not in str(caught.value)


def test_an_encoding_that_is_named_for_utf_8_is_said(write, capsys):
    path = write("a.csv", "text,label\nGröße,x\n")
    assert values(open_table(path, encoding="cp1252"))[0]["text"] == "GrÃ¶ÃŸe"
    said = capsys.readouterr().err
    assert f"{path}: is UTF-8 ('Größe' there), and is read as cp1252 ('GrÃ¶ÃŸe') by --encoding" in said
    for name, content in (("b.csv", "text\nplain\n"), ("c.csv", "text\nGröße\n".encode("cp1252"))):
        open_table(write(name, content), encoding="cp1252")
    open_table(path, encoding="utf8")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("encoding", ["undefined", "base64", "utf-16"])
def test_an_encoding_that_cannot_read_the_file_is_one_line(write, encoding):
    with pytest.raises(TableError, match=encoding):
        values(open_table(write("a.csv", "text,label\nx,y\n"), encoding=encoding))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            b"PK\x03\x04\x14\x00\x06\x00",
            r"a zip archive, as an Excel workbook \(.xlsx\) is one; save the sheet as CSV",
        ),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 50, "an Excel workbook"),
        (b"PAR1\x15\x04\x15\x10", "a parquet file; let its name end with .parquet"),
        (bz2.compress(b"text,label\n"), "a bzip2 archive; unpack it"),
        (gzip.compress(gzip.compress(b"text,label\n")), "packed by gzip twice"),
        (b"<!DOCTYPE html>\n<html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS"),
        (b"a.csv".ljust(257, b"\0") + b"ustar\0", "a tar archive"),
    ],
)
def test_what_is_no_text_is_told_by_what_it_is(write, content, said):
    with pytest.raises(TableError, match=f"a.csv: no table of text but {said}"):
        open_table(write("a.csv", content))


def test_a_header_may_read_like_another_kind(write):
    assert open_table(write("a.csv", "PAR1,ARROW1\nx,y\n")).columns == ("PAR1", "ARROW1")


def test_bytes_far_into_a_file_are_counted_from_its_begin(write):
    text = "text,label\n" + "é fine,x\n" * 20_000
    path = write("a.csv", text.encode() + b"\x8d\xfc,y\n")
    with pytest.raises(
        TableError, match=f"at byte {len(text.encode()) + 1:,}, line 20,002; it looks like cp1250"
    ):
        values(open_table(path))


def test_a_file_that_ends_within_a_character_is_named(write):
    with pytest.raises(TableError, match="ends in the middle of a character"):
        values(open_table(write("a.csv", "text,label\nx,Größe".encode()[:-2])))


def test_an_encoding_that_contradicts_the_mark_is_refused(write):
    with pytest.raises(TableError, match="mark of utf-8, but --encoding says cp1252"):
        open_table(write("a.csv", "\ufefftext,label\nx,y\n"), encoding="cp1252")


def test_rows_of_another_length_are_listed(write):
    path = write("a.csv", "a,b,c\n1,2,3,4\n1,2,3\n1,2\n")
    with pytest.raises(TableError) as caught:
        values(open_table(path))
    assert (
        "a.csv:2: the header names 3 columns, but line 2 has 4, line 4 has 2 cells; put a cell that holds ','"
        in str(caught.value)
    )
    left_out = []
    table = open_table(path, on_ragged=lambda line, count: left_out.append((line, count)))
    assert len(values(table)) == 1
    assert left_out == [(2, 4), (4, 2)]


def test_of_many_rows_of_another_length_five_are_listed(write):
    with pytest.raises(TableError, match=r"line 6 has 1 cells, and there are more"):
        values(
            open_table(
                write(
                    "a.csv",
                    "a,b\n" + "1\n" * 9,
                ),
                delimiter=",",
            )
        )


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "empty; its first line is to name the columns"),
        ("\n\n", "empty"),
        ("a,b\nx\0y,1\n", ":2: a NUL byte, character 2 of the line"),
        ('a,b\nx,"y\nz,1\n', ":2: a quote is opened here and not closed to the end of the file"),
        ('a,b\nx,"y"z\n', ":2: a cell goes on behind its closing quote"),
        ("a,a,b\n1,2,3\n", "2 columns have the name 'a'; the header, divided by ',', has 'a', 'a', 'b'"),
        (",,b\n1,2,3\n", "2 columns have no name"),
    ],
)
def test_what_is_malformed_is_one_line_with_its_place(write, content, said):
    path = write("a.csv", content)
    with pytest.raises(TableError) as caught:
        values(open_table(path))
    assert str(caught.value).startswith(str(path))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_one_column_without_a_name_is_read_as_pandas_writes_it(write):
    assert open_table(write("a.csv", ",text,label\n0,x,y\n")).columns == ("", "text", "label")


def test_a_missing_file_a_folder_and_an_unknown_kind_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none.csv: no such file"):
        open_table(tmp_path / "none.csv")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(TableError, match="is a folder"):
        open_table(tmp_path / "folder.csv")
    with pytest.raises(TableError, match="is a folder; name a file"):
        open_table(tmp_path)
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(
        TableError, match=r"pipe.csv is no file, and can be read once alone; save it as a file"
    ):
        open_table(tmp_path / "pipe.csv")
    with pytest.raises(TableError, match=r"book.xlsx: unknown kind of table; use .csv"):
        open_table(tmp_path / "book.xlsx")


def test_a_header_that_stands_again_is_named(write):
    for again in ("text,label", "\ufefftext,label"):
        path = write("a.csv", f"text,label\nx,a\n{again}\ny,b\n")
        with pytest.raises(
            TableError, match=r"a.csv:3: the header stands here again, as where files are put"
        ):
            values(open_table(path))
    assert values(open_table(write("b.csv", "text\ntext\n"))) == [{"text": "text"}]


def test_a_blank_line_is_a_row_where_there_is_one_column(write):
    table = open_table(write("a.csv", "\ntext\r\none\r\n\r\nthree\r\n"))
    assert [(row.line, row.values["text"]) for row in table] == [(3, "one"), (4, ""), (5, "three")]
    assert len(values(open_table(write("b.csv", "text,label\nx,a\n\ny,b\n")))) == 2


@pytest.mark.parametrize("header", ["Text ,label", "te\u200bxt,label", "text\xa0,label"])
def test_a_column_that_is_spelled_otherwise_is_named(write, header):
    with pytest.raises(TableError, match=r"no column 'text'; it has .* is spelled otherwise than 'text'\."):
        open_table(write("a.csv", f"{header}\nx,a\n")).check_columns({"text": "--inputs text"})


def test_forms_of_a_character_are_told_apart_in_messages(write):
    path = write("a.csv", "gru\u0308n,label\nx,a\n")
    with pytest.raises(TableError) as caught:
        open_table(path).check_columns({"grün": "--inputs grün"})
    assert r"it has 'gru\u0308n', 'label'" in str(caught.value)


def test_of_many_columns_twenty_are_named(write):
    path = write("a.csv", ",".join(f"c{n}" for n in range(300)) + "\n")
    with pytest.raises(TableError, match=r"'c19' and 280 more \(divided"):
        open_table(path).check_columns({"d": "--id d"})
