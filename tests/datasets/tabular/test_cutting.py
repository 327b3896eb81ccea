"""Splits that are cut: stratified, the same for the same rows, equal texts on one side."""

from collections import Counter
from pathlib import Path

import hypothesis
import hypothesis.strategies as st

from stepdistill_jax.datasets.tabular.cutting import cut
from stepdistill_jax.datasets.tabular.reading import TextRow

BOTH = ("validation", "test")


def rows(pairs):
    """Of (text, label) pairs."""
    return [
        TextRow(path=Path("a.csv"), line=n + 2, number=n, inputs=text, label=label, kind="str")
        for n, (text, label) in enumerate(pairs)
    ]


def parted(pairs, splits=BOTH, *, share=0.1, seed=0, stratified=True):
    return cut(rows(pairs), splits, share=share, seed=seed, stratified=stratified)


def texts(splits):
    return {split: [row.inputs for row in part] for split, part in splits.items()}


def test_each_label_gives_its_share():
    labels = ["a"] * 100 + ["b"] * 60 + ["c"] * 40
    splits = parted([(f"text {n}", label) for n, label in enumerate(labels)])
    assert {split: len(part) for split, part in splits.items()} == {
        "train": 160,
        "validation": 20,
        "test": 20,
    }
    assert Counter(row.label for row in splits["validation"]) == {"a": 10, "b": 6, "c": 4}
    assert Counter(row.label for row in splits["test"]) == {"a": 10, "b": 6, "c": 4}


def test_a_label_with_one_row_stays_in_train():
    pairs = [*((f"text {n}", "a") for n in range(20)), ("one", "b"), ("two", "c")]
    splits = parted(pairs, share=0.3)
    assert {"b", "c"} <= {row.label for row in splits["train"]}
    assert {row.label for row in splits["validation"] + splits["test"]} == {"a"}


def test_equal_texts_however_they_are_written_are_in_one_split():
    pairs = [(f"{'Text' if n % 2 else ' text'}  {n // 4}", "ab"[n % 2]) for n in range(80)]
    splits = parted(pairs, share=0.2)
    seen = [{" ".join(row.inputs.lower().split()) for row in part} for part in splits.values()]
    assert sum(map(len, seen)) == len(set.union(*seen)) == 20
    assert all(splits.values())


def test_the_cut_depends_on_what_rows_say_and_the_seed_alone():
    pairs = [(f"text {n}", "abc"[n % 3]) for n in range(60)]
    cut_once, cut_again = texts(parted(pairs)), texts(parted(pairs[::-1]))
    assert {split: sorted(part) for split, part in cut_once.items()} == {
        split: sorted(part) for split, part in cut_again.items()
    }
    assert texts(parted(pairs, seed=1)) != cut_once
    assert cut_once["train"] == [text for text, _ in pairs if text in set(cut_once["train"])]


def test_open_text_is_cut_without_labels():
    splits = parted([(f"text {n}", f"answer {n}") for n in range(50)], stratified=False)
    assert {split: len(part) for split, part in splits.items()} == {"train": 40, "validation": 5, "test": 5}


def test_a_split_for_which_there_are_too_few_rows_is_left_out():
    assert parted([("x", "a"), ("y", "b")]).keys() == {"train"}
    assert parted([("x", "a"), ("y", "b")], stratified=False).keys() == {"train", "validation"}
    splits = parted([("u", "a"), ("v", "a"), ("w", "b"), ("x", "b"), ("y", "c"), ("z", "d")])
    assert {split: len(part) for split, part in splits.items()} == {"train": 4, "validation": 1, "test": 1}


def test_a_text_that_most_rows_have_is_cut_only_where_nothing_else_is():
    pairs = [("spam", "a")] * 30 + [(f"text {n}", "a") for n in range(10)]
    splits = parted(pairs, ("test",), share=0.1)
    assert len(splits["test"]) == 4
    only = parted([("spam", "a")] * 5 + [("ham", "a")] * 5, ("test",), share=0.1)
    assert len(only["test"]) == 5


@hypothesis.given(
    pairs=st.lists(st.tuples(st.sampled_from("pqrstuvw"), st.sampled_from("abc")), min_size=1, max_size=40),
    share=st.floats(0.01, 0.4),
    seed=st.integers(0, 3),
)
@hypothesis.settings(deadline=None, max_examples=60)
def test_every_row_is_in_one_split_and_every_label_in_train(pairs, share, seed):
    splits = parted(pairs, share=share, seed=seed)
    numbers = [row.number for part in splits.values() for row in part]
    assert sorted(numbers) == list(range(len(pairs)))
    assert {row.label for row in splits["train"]} == {label for _, label in pairs}
    assert all(splits.values())
    sides = [{row.inputs for row in part} for part in splits.values()]
    assert sum(map(len, sides)) == len(set.union(*sides))
