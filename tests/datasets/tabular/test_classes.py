"""Labels: choices or open text, and what looks amiss."""

from pathlib import Path

import pytest

from stepdistill_jax.datasets.tabular import classes
from stepdistill_jax.datasets.tabular.reading import TextRow
from stepdistill_jax.tables import TableError


def rows(*labels, kind="str"):
    return [
        TextRow(path=Path("a.csv"), line=n + 2, number=n, inputs=f"text {n}", label=label, kind=kind)
        for n, label in enumerate(labels)
    ]


@pytest.fixture
def choose(settings):
    """The choices of training rows with these labels, and the notes: `choose(['a', 'b'], test=['c'], free=True)`."""

    def chosen(train, *, test=(), **changes):
        splits = {"train": rows(*train)} | ({"test": rows(*test)} if test else {})
        made = settings(Path("a.csv"), **changes)
        choices = classes.choices_of(splits, made)
        return choices, classes.notes_on(splits, choices, made)

    return chosen


def test_few_labels_are_choices_the_commonest_first(choose):
    assert choose(["b", "a", "c", "c", "a", "c", "b", "a", "b"])[0] == ("a", "b", "c")
    assert choose(["x", "y", "y"])[0] == ("y", "x")


def test_many_labels_are_choices_where_each_occurs_often(choose):
    labels = [f"intent {n}" for n in range(100)]
    assert len(choose(labels * classes.ROWS_A_CHOICE)[0]) == 100
    choices, notes = choose(labels * 2)
    assert choices == ()
    assert (
        "100 different labels in 200 rows are taken as open text; --choices takes them all as choices"
        in notes
    )
    assert len(choose(labels, choices=())[0]) == 100


def test_labels_may_be_said_to_be_open_text_or_equations(choose):
    assert choose(["a", "b"], free=True) == ((), [])
    assert choose(["1 + 2", "3"], metric="equation") == ((), [])


def test_given_choices_are_taken_in_their_order_and_others_are_named(choose):
    choices, notes = choose(["a", "b"], choices=("b", "a", "c"))
    assert choices == ("b", "a", "c")
    assert "no training row has the label 'c'" in notes
    with pytest.raises(TableError, match=r"a.csv: lines 3, 4: the label 'd' is none of --choices a, b"):
        choose(["a", "d", "d"], choices=("a", "b"))


def test_one_label_is_nothing_to_learn(choose):
    with pytest.raises(TableError, match="all 3 rows have the label 'a', so there is nothing to learn"):
        choose(["a", "a", "a"])


def test_labels_that_train_has_not_are_refused_unless_allowed(choose):
    with pytest.raises(TableError, match=r"line 3: no training row has the label 'chat'.*--allow_unseen"):
        choose(["a", "b"], test=["a", "chat"])
    with pytest.raises(
        TableError, match=r"by --allow_unseen\. 'chat', 'Chat ' look alike: --merge_labels makes"
    ):
        choose(["a", "chat"], test=["a", "Chat "])
    with pytest.raises(TableError, match=r"--allow_unseen\. '1', '1.0' are one number: write them alike"):
        choose(["1", "2"], test=["1.0"])
    choices, notes = choose(["a", "b"], test=["a", "chat"], allow_unseen=True)
    assert choices == ("a", "b", "chat")
    assert "no training row has the label 'chat'" in notes


def test_labels_that_are_alike_are_said_and_not_merged(choose):
    choices, notes = choose(["Billing", "billing ", "bug", "Bug", "delivery", "billing", "billing"])
    assert len(choices) == 6
    assert any(
        note.startswith("'billing', 'Billing', 'billing ' differ in case and spaces alone") for note in notes
    )
    assert any(note.startswith("'Bug', 'bug' differ") for note in notes)


def test_merging_takes_the_commonest_spelling_or_a_given_one():
    labels = classes.counts_of(rows("Billing", "billing ", "billing", "billing", "bug"))
    assert classes.merging(labels, ()) == dict.fromkeys(("billing", "Billing", "billing "), "billing")
    assert set(classes.merging(labels, ("Billing", "bug")).values()) == {"Billing"}


@pytest.mark.parametrize(
    ("one", "other", "shown"),
    [
        ("grün", "gru\u0308n", r"'gru\u0308n', 'grün'"),
        ("spam", "spam\u200b", r"'spam', 'spam\u200b'"),
        ("ABC", "ＡＢＣ", "'ABC', 'ＡＢＣ'"),
        ("won't", "won’t", "\"won't\", 'won’t'"),
    ],
)
def test_labels_that_a_reader_takes_for_one_are_said_and_merged_if_asked(choose, one, other, shown):
    choices, notes = choose([one, other, "x"])
    assert len(choices) == 3
    assert f"{shown} look alike, and are 2 labels; --merge_labels makes them one" in notes
    assert set(classes.merging(classes.counts_of(rows(other, one)), ()).values()) == {one}
    assert set(classes.merging(classes.counts_of(rows(other, other, one)), ()).values()) == {other}


def test_merging_takes_a_given_choice_that_no_row_has():
    labels = classes.counts_of(rows("Bug", "bug ", "x"))
    assert classes.merging(labels, ("bug", "x")) == {"bug": "bug", "Bug": "bug", "bug ": "bug"}


def test_labels_that_are_no_equations_are_said(choose):
    notes = choose(["1 + 2", "3", "two", "6:7"], metric="equation")[1]
    assert "2 labels are no equations, and are compared as text: '6:7', 'two'" in notes


def test_of_many_labels_that_look_alike_eight_groups_are_said(choose):
    labels = [label for n in range(30) for label in (f"Town {n}", f"town {n}")]
    notes = choose(labels, free=True)[1]
    assert sum("differ in case" in note for note in notes) == 8
    assert "22 more groups of labels look alike" in notes


def test_labels_of_one_number_are_said_and_stay(choose):
    choices, notes = choose(["1", "1.0", "01", "2", "1_0", "10"])
    assert len(choices) == 6
    assert [note for note in notes if "number" in note] == ["'01', '1', '1.0' are one number, and 3 labels"]


def test_blanks_and_quotes_that_are_part_of_labels_are_said(choose):
    notes = choose([" a", "b", '"c"', "'d'", "it's 'e'"])[1]
    assert "blanks before or behind them are part of 1 labels: ' a'" in notes
    assert any(note.startswith("the quotes around them are part of 2 labels:") for note in notes)


def test_train_of_one_label_is_nothing_to_learn_whatever_the_others_have(choose):
    with pytest.raises(
        TableError, match="all 2 rows of train have the label 'a', so there is nothing to learn"
    ):
        choose(["a", "a"], test=["b"], allow_unseen=True)


def test_decimals_are_no_lists_of_labels(choose):
    assert len(choose(["0,5", "1,5", "0,1", "5,1"])[0]) == 4
    assert len(choose(["north/car", "south/car", "north/home", "south/home"])[0]) == 4
    for several in ("1,2", "a/b", "a & b", "a\nb"):
        with pytest.raises(TableError, match="look like several labels in one cell"):
            choose(["1", "2", "a", "b", several])


def test_a_long_label_is_shortened_in_messages(choose):
    [note] = [note for note in choose(["a" * 5000, "b", "b"])[1] if "one training row" in note]
    assert len(note) < 200


def test_several_labels_in_a_cell_are_seen(choose):
    with pytest.raises(TableError, match="'a,b' look like several labels in one cell"):
        choose(["a", "b", "a,b", "a"])
    with pytest.raises(TableError, match="look like several labels"):
        choose(["a;b", "b;c", "a;c"])
    assert choose(["Shoes, bags", "Coats", "Coats"])[0] == ("Coats", "Shoes, bags")
    assert choose(["a", "b", "a,b"], choices=("a", "b", "a,b"))[0] == ("a", "b", "a,b")


def test_a_label_of_one_row_and_one_that_is_written_in_two_ways_are_said(choose, settings):
    note = "of one training row alone, which no cut takes from train: the labels 'c', 'd'"
    assert note in choose(["a", "a", "b", "b", "c", "d"])[1]
    splits = {"train": [*rows("1", "2", kind="int"), *rows("1")]}
    notes = classes.notes_on(splits, ("1", "2"), settings(Path("a.csv")))
    assert "the label 1 stands there as int and as str, and is one label" in notes


def test_labels_that_are_almost_as_many_as_rows_are_said(choose):
    assert (
        "3 labels in 4 training rows are choices; --free takes them as open text"
        in choose(["a", "b", "c", "a"])[1]
    )
