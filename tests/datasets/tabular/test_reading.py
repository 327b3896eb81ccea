"""Rows that are used, and rows that are named."""

import pytest
from shop_tickets import TICKETS, as_csv

from stepdistill_jax.datasets.tabular.reading import read_table
from stepdistill_jax.tables import TableError


def refused(path, settings):
    with pytest.raises(TableError) as caught:
        read_table(path, settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_texts_are_what_the_file_says(write, settings):
    path = write("a.csv", as_csv([(" Lamp {0}", "It {{flickers}}\r\nall day", " 007 ")]))
    [row] = read_table(path, settings(path)).rows
    assert (row.inputs, row.label) == (" Lamp {0}\nIt {{flickers}}\r\nall day", " 007 ")
    assert (row.line, row.number, row.place) == (2, 0, f"{path}:2")


def test_labels_that_look_missing_or_like_numbers_are_labels(write, settings):
    labels = ["NA", "None", "null", "nan", "N/A", "007", "7", "1.0", "1", "TRUE", "true"]
    path = write("a.csv", as_csv([("s", str(n), label) for n, label in enumerate(labels)]))
    assert [row.label for row in read_table(path, settings(path)).rows] == labels


def test_rows_without_a_label_are_all_named_or_left_out(write, settings):
    path = write("a.csv", as_csv([("a", "b", "x"), ("c", "d", ""), ("e", "f", "y"), ("g", "h", "  ")]))
    said = refused(path, settings(path))
    assert "a.csv:3: rows that cannot be used: lines 3, 5: without a label." in said
    assert "--drop_unlabelled" in said
    read = read_table(path, settings(path, drop_unlabelled=True))
    assert [row.line for row in read.rows] == [2, 4]
    assert read.left_out == {"without a label": [3, 5]}


def test_of_many_bad_rows_five_are_named(write, settings):
    path = write("a.csv", as_csv([("a", "b", "")] * 9))
    assert "lines 2, 3, 4, 5, 6 and 4 more: without a label" in refused(path, settings(path))


def test_rows_without_inputs_are_named(write, settings):
    path = write("a.csv", as_csv([("a", "", "x"), (" ", "", "y")]))
    assert "line 3: the inputs ('subject', 'body') are empty" in refused(path, settings(path))


def test_types_that_are_no_text_are_named_each_with_its_line(write, settings):
    path = write(
        "a.jsonl",
        '{"subject": "a", "body": "b", "queue": 1}\n{"subject": 5, "body": null, "queue": 2}\n'
        '{"subject": "c", "body": ["d"], "queue": true}\n{"subject": "f", "queue": "1"}\n'
        '{"subject": "g", "body": "h", "queue": NaN}\n{"subject": "g", "body": "h"}\n',
    )
    said = refused(path, settings(path))
    for part in (
        "line 2: 'body' is null",
        "line 3: 'body' is a list",
        "line 4: there is no 'body'",
        "line 5: 'queue' is NaN",
        "line 6: no 'queue', so without a label",
    ):
        assert part in said


def test_numbers_and_true_are_labels_by_their_json_text(write, settings):
    path = write(
        "a.jsonl", "".join(f'{{"t": "{n}", "q": {q}}}\n' for n, q in enumerate(["1", '"1"', "true", "1.50"]))
    )
    rows = read_table(path, settings(path, inputs="t", label="q")).rows
    assert [(row.label, row.kind) for row in rows] == [
        ("1", "int"), ("1", "str"), ("true", "bool"), ("1.50", "float"),
    ]  # fmt: skip


def test_a_list_of_labels_is_refused(write, settings):
    path = write("a.csv", as_csv([("a", "b", "x"), ("c", "d", '["x", "y"]')]))
    assert 'line 3: the label \'["x", "y"]\' is a list; a row has one label' in refused(path, settings(path))


def test_a_list_as_python_writes_it_is_refused_and_taken_as_open_text(write, settings):
    path = write("a.csv", as_csv([("a", "b", "x"), ("c", "d", "['x', 'y']"), ("e", "f", "[not a list]")]))
    said = refused(path, settings(path))
    assert (
        "line 3: the label \"['x', 'y']\" is a list; a row has one label (--free takes it as text)." in said
    )
    assert "line 4" not in said
    rows = read_table(path, settings(path, free=True)).rows
    assert [row.label for row in rows] == ["x", "['x', 'y']", "[not a list]"]


def test_what_cannot_be_seen_is_empty(write, settings):
    path = write("a.csv", as_csv([("\u200b", "\ufeff", "x"), ("c", "d", "\u2060")]))
    said = refused(path, settings(path, inputs="About {subject}: {body}"))
    assert "line 2: the inputs ('subject', 'body') are empty; line 3: without a label." in said


def test_a_table_of_which_all_rows_are_left_out_is_told_why(write, settings):
    path = write("a.csv", "subject,body,queue\na,b\n")
    with pytest.raises(TableError, match="all were left out, another number of cells than the header"):
        read_table(path, settings(path, skip_ragged=True, delimiter=","))


def test_an_id_stands_once(write, settings):
    rows = [
        ("1", "a", "x"),
        ("2", "b", "y"),
        ("2", "c", "x"),
        ("3", "d", "y"),
        ("03", "e", "x"),
        ("", "f", "x"),
    ]
    path = write("a.csv", as_csv(rows, ("id", "body", "queue")))
    said = refused(path, settings(path, inputs="body", id="id"))
    assert "line 4: the id '2' stands on line 3, too; line 7: 'id' is empty." in said
    path = write("b.csv", as_csv([*rows[:2], *rows[3:5]], ("id", "body", "queue")))
    assert [row.id for row in read_table(path, settings(path, inputs="body", id="id")).rows] == [
        "1",
        "2",
        "3",
        "03",
    ]


def test_a_column_says_splits_in_the_words_that_people_use(write, settings):
    rows = [("a", "x", word) for word in ("train", "Dev", "val", "validation", "TEST")]
    path = write("a.csv", as_csv(rows, ("body", "queue", "part")))
    chosen = settings(path, inputs="body", split="part")
    assert [row.split for row in read_table(path, chosen).rows] == ["train", *["validation"] * 3, "test"]
    path = write("b.csv", as_csv([*rows, ("b", "y", "holdout")], ("body", "queue", "part")))
    assert "line 7: 'part' is 'holdout', none of train, validation, test" in refused(path, chosen)


@pytest.mark.parametrize("column", ["label", "id", "rationale", "split"])
def test_a_column_that_is_not_there_is_named_with_those_that_are(write, settings, column):
    path = write("a.csv", as_csv(TICKETS))
    said = refused(path, settings(path, **{column: "topic"}))
    assert (
        f"--{column} topic: {path} has no column 'topic'; it has 'subject', 'body', 'queue' (divided by ',')"
        in said
    )


def test_a_file_without_a_header_is_asked_after(write, settings):
    path = write("a.csv", as_csv(TICKETS[1:], TICKETS[0]))
    said = refused(path, settings(path))
    assert "no column 'subject'; it has 'Lamp flickers'" in said
    assert "Is its first line a header?" in said


def test_a_header_alone_is_no_table(write, settings):
    path = write("a.csv", as_csv([]))
    assert f"{path}: no rows, only a header" in refused(path, settings(path))


def test_ragged_rows_are_errors_or_left_out_and_counted(write, settings):
    path = write("a.csv", "subject,body,queue\na,b,x\nc,d,y,z\ne,f,y\n")
    assert "--skip_ragged leaves such rows out" in refused(path, settings(path))
    read = read_table(path, settings(path, skip_ragged=True))
    assert [row.line for row in read.rows] == [2, 4]
    assert list(read.left_out.values()) == [[3]]


def test_a_quote_that_a_later_row_closes_is_seen(write, settings):
    def doubtful(content):
        path = write("a.csv", "id,subject,queue\n" + content)
        return read_table(path, settings(path, inputs="subject")).doubtful

    assert doubtful('1,lamp,x\n2,"cup,y\n3,pot,x\n4,pan",y\n5,jug,x\n') == [3]
    assert doubtful('1,lamp,x\r\n2,",y\r\n3,",x\r\n4,jug,y\r\n') == [3]
    assert doubtful('1,"lamp, old,\nx, y\nz",x\n2,"a\nb,c,d\ne",y\n') == []
    assert doubtful('1,"he wrote:\n7,pot,x\nso",x\n') == [2]


def test_what_looks_like_rows_within_a_cell_of_json_is_none(write, settings):
    path = write("a.jsonl", '{"t": "1,a,x\\n2,b,x\\n", "q": "x"}\n{"t": "u", "q": "y"}\n')
    assert read_table(path, settings(path, inputs="t", label="q")).doubtful == []
