"""The published datasets, prepared from their files: the paper's counts (Table 3), and rows that line up."""

import gzip
import json

import pytest
import tensorflow_datasets as tfds

from stepdistill_jax import datasets
from stepdistill_jax.launching import task_modules

COUNTS = {
    "svamp": {"train": 720, "validation": 80, "test": 200},
    "cqa": {"train": 8_766, "validation": 975, "test": 1_221},
    "anli": {
        "train": 10_053,
        "validation": 1_000,
        "test": 1_000,
    },  # train: the part that is public in full text
    "esnli": {"train": 15_389, "validation": 9_842, "test": 9_824},  # train: as above
    "asdiv": {"train": 2_305},
}


every_dataset = pytest.mark.parametrize("name", list(COUNTS))


def published(shared, name):
    with gzip.open(shared / "data" / name, "rt", encoding="utf-8") as file:
        text = file.read()
    return json.loads(text) if text.startswith("[") else [json.loads(line) for line in text.splitlines()]


@every_dataset
def test_counts_are_the_papers(prepare_once, name):
    manifest, examples, folder = prepare_once(name)
    assert manifest["counts"] == COUNTS[name]
    assert {split: len(rows) for split, rows in examples.items()} == COUNTS[name]
    builder = tfds.builder_from_directory(str(folder))
    assert {split: info.num_examples for split, info in builder.info.splits.items()} == COUNTS[name]


@every_dataset
def test_partial_splits_are_said_to_be_partial(prepare_once, name):
    expected = {
        "anli": ["train is partial: 10,053 of 16,946 rows", "train has 10,053 rows without a gold label"],
        "esnli": ["train is partial: 15,389 of 549,367 rows"],
    }.get(name, [])
    notes = prepare_once(name)[0]["notes"]
    assert len(notes) == len(expected)
    for note, beginning in zip(notes, expected, strict=True):
        assert note.startswith(beginning)


@every_dataset
def test_no_row_is_in_two_splits_and_every_id_is_unique(prepare_once, name):
    _, splits, _ = prepare_once(name)
    seen = set()
    for split, examples in splits.items():
        assert len({example.example_id for example in examples}) == len(examples)
        rows = {(e.source_split, e.source_row) for e in examples if e.source_row >= 0}
        assert not rows & seen
        seen |= rows
        assert all(example.example_id.startswith(f"{name}/{split}/") for example in examples)


@pytest.mark.parametrize(
    ("name", "text", "label"), [("svamp", "input", "label"), ("cqa", "question", "answer")]
)
def test_source_rows_of_train_and_validation_point_at_the_published_rows(
    prepare_once, shared, name, text, label
):
    rows = published(shared, f"{name}/{name}_train.json.gz")
    splits = prepare_once(name)[1]
    for example in splits["train"] + splits["validation"]:
        row = rows[example.source_row]
        assert example.source_split == "train"
        assert example.inputs.startswith(row[text])
        assert example.label == row[label]


@pytest.mark.parametrize(
    ("name", "parts"),
    [("anli", ["anli1_train_partial"]), ("esnli", ["esnli_train_rows0-9999", "esnli_train_sample"])],
)
def test_partial_rows_keep_their_number_in_the_full_file(prepare_once, shared, name, parts):
    rows = [row for part in parts for row in published(shared, f"{name}/{part}.jsonl.gz")]
    numbers = [-1 if row["idx"] is None else row["idx"] for row in rows]
    assert [example.source_row for example in prepare_once(name)[1]["train"]] == numbers


@pytest.mark.parametrize(
    ("name", "split", "inputs", "label"),
    [
        (
            "svamp",
            "test",
            "Paige was helping her mom plant flowers and together they planted some seeds. They put 10 seeds in each "
            "flower bed. If there are 45 flowerbeds\nHow many seeds did they plant?",
            "( 10.0 * 45.0 )",
        ),
        (
            "cqa",
            "test",
            "A beaver is know for building prowess, their supplies come from where?\nAnswer Choices:\n"
            "(a) british columbia\n(b) body of water\n(c) wooded area\n(d) pay debts\n(e) zoo",
            "wooded area",
        ),
        (
            "esnli",
            "test",
            "premise: This church choir sings to the masses as they sing joyous songs from the book at a church. "
            "hypothesis: The church has cracks in the ceiling.",
            "neutral",
        ),
        (
            "anli",
            "train",
            'premise: The Parma trolleybus system (Italian: "Rete filoviaria di Parma" ) forms part of the public '
            'transport network of the city and "comune" of Parma, in the region of Emilia-Romagna, northern Italy. In '
            "operation since 1953, the system presently comprises four urban routes. "
            "hypothesis: The trolleybus system has over 2 urban routes",
            None,
        ),
    ],
)
def test_inputs_and_labels_read_as_the_authors_have_them(prepare_once, name, split, inputs, label):
    first = prepare_once(name)[1][split][0]
    assert (first.inputs, first.label) == (inputs, label)


@every_dataset
def test_labels_are_gold_where_there_are_any(prepare_once, name):
    dataset = datasets.get(name)
    for split, examples in prepare_once(name)[1].items():
        labels = {example.label for example in examples}
        if name == "anli" and split == "train":
            assert labels == {None}
        else:
            assert all(datasets.labels_match(dataset, label, label) for label in labels)


def test_asdiv_labels_are_worth_the_published_answer(prepare_once, shared):
    """The answer without its unit, or an equation of its value: never the answer with its unit."""
    asdiv = datasets.get("asdiv")
    rows = published(shared, "asdiv/asdiv.jsonl.gz")
    numeric = 0
    for row, example in zip(rows, prepare_once("asdiv")[1]["train"], strict=True):
        answer = row["answer"].split(" (")[0].strip()
        assert datasets.labels_match(asdiv, example.label, answer), (row["id"], example.label, answer)
        numeric += datasets.labels_match(asdiv, answer, f"{answer} + 0")
    assert numeric > 2_000


def test_choices_of_cqa_hold_the_label(prepare_once):
    for examples in prepare_once("cqa")[1].values():
        assert all(example.label in example.choices and len(example.choices) == 5 for example in examples)


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("esnli", {"premise": "A man runs.", "hypothesis": "A man moves.", "label": -1}),
        ("anli", {"premise": "A man runs.", "hypothesis": "A man moves.", "label": 3}),
    ],
)
def test_a_label_number_outside_the_three_is_refused(name, row):
    task_modules.load_tasks()
    with pytest.raises(ValueError, match="is none of 0, 1, 2"):
        datasets.get(name).to_example(row)
