"""The published datasets, prepared from their files: the paper's counts (Table 3), and rows that line up."""

import gzip
import json

import pytest
import tensorflow_datasets as tfds

from stepdistill_jax import datasets

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


@pytest.fixture(scope="session", params=list(COUNTS))
def prepared(request, shared, tmp_path_factory):
    """(name, manifest, DATA) of each dataset."""
    datasets.load_tasks()
    folder = tmp_path_factory.mktemp("DATA")
    manifest = datasets.prepare(request.param, from_folder=shared / "data", data_dir=folder)
    return request.param, manifest, folder


def published(shared, name):
    with gzip.open(shared / "data" / name, "rt", encoding="utf-8") as file:
        text = file.read()
    return json.loads(text) if text.startswith("[") else [json.loads(line) for line in text.splitlines()]


def examples_of(prepared, split):
    name, _, folder = prepared
    return datasets.read_examples(name, split, folder)


def test_counts_are_the_papers(prepared):
    name, manifest, folder = prepared
    assert manifest["counts"] == COUNTS[name]
    builder = tfds.builder_from_directory(str(folder / name / "examples"))
    assert {split: info.num_examples for split, info in builder.info.splits.items()} == COUNTS[name]


def test_partial_splits_are_said_to_be_partial(prepared):
    name, manifest, _ = prepared
    expected = {
        "anli": ["train is partial: 10,053 of 16,946 rows", "train has 10,053 rows without a gold label"],
        "esnli": ["train is partial: 15,389 of 549,367 rows"],
    }.get(name, [])
    assert len(manifest["notes"]) == len(expected)
    for note, beginning in zip(manifest["notes"], expected, strict=True):
        assert note.startswith(beginning)


def test_no_row_is_in_two_splits_and_every_id_is_unique(prepared):
    name, manifest, _ = prepared
    seen = set()
    for split in manifest["counts"]:
        examples = examples_of(prepared, split)
        ids = {example.example_id for example in examples}
        assert len(ids) == len(examples)
        rows = {(e.source_split, e.source_row) for e in examples if e.source_row >= 0}
        assert not rows & seen
        seen |= rows
        assert all(example.example_id.startswith(f"{name}/{split}/") for example in examples)


def test_source_rows_point_at_the_published_rows(prepared, shared):
    name, _, _ = prepared
    files = {"svamp": "svamp/svamp_train.json.gz", "cqa": "cqa/cqa_train.json.gz"}
    if name not in files:
        pytest.skip("its validation rows are published as such")
    rows = published(shared, files[name])
    for split in ("train", "validation"):
        for example in examples_of(prepared, split):
            row = rows[example.source_row]
            assert example.source_split == "train"
            assert example.inputs.startswith(row["input"] if name == "svamp" else row["question"])
            assert example.label == row["label" if name == "svamp" else "answer"]


def test_partial_rows_keep_their_number_in_the_full_file(prepared, shared):
    name, _, _ = prepared
    if name not in ("anli", "esnli"):
        pytest.skip("complete")
    parts = {"anli": ["anli1_train_partial"], "esnli": ["esnli_train_rows0-9999", "esnli_train_sample"]}[name]
    rows = [row for part in parts for row in published(shared, f"{name}/{part}.jsonl.gz")]
    assert [example.source_row for example in examples_of(prepared, "train")] == [
        -1 if row["idx"] is None else row["idx"] for row in rows
    ]


def test_inputs_and_labels_read_as_the_authors_have_them(prepared):
    name, _, _ = prepared
    split = "train" if name == "asdiv" else "test"
    first = examples_of(prepared, split)[0]
    expected = {
        "svamp": (
            "Paige was helping her mom plant flowers and together they planted some seeds. They put 10 seeds in each "
            "flower bed. If there are 45 flowerbeds\nHow many seeds did they plant?",
            "( 10.0 * 45.0 )",
        ),
        "cqa": (
            "A beaver is know for building prowess, their supplies come from where?\nAnswer Choices:\n"
            "(a) british columbia\n(b) body of water\n(c) wooded area\n(d) pay debts\n(e) zoo",
            "wooded area",
        ),
        "esnli": (
            "premise: This church choir sings to the masses as they sing joyous songs from the book at a church. "
            "hypothesis: The church has cracks in the ceiling.",
            "neutral",
        ),
        "asdiv": (
            "Seven red apples and two green apples are in the basket.\nHow many apples are in the basket?",
            None,
        ),
    }
    if name == "anli":
        assert first.inputs.startswith("premise: Ernest Jones is a British jeweller")
        assert first.inputs.endswith(
            "hypothesis: The first Ernest Jones store was opened on the continent of Europe."
        )
        assert first.label == "entailment"
        return
    inputs, label = expected[name]
    assert first.inputs == inputs
    if label is not None:
        assert first.label == label


def test_labels_are_gold_where_there_are_any(prepared):
    name, manifest, _ = prepared
    for split in manifest["counts"]:
        labels = [example.label for example in examples_of(prepared, split)]
        if name == "anli" and split == "train":
            assert set(labels) == {None}
        else:
            assert all(labels)
            assert all(datasets.labels_match(datasets.get(name), label, label) for label in set(labels))


def test_asdiv_labels_are_worth_the_published_answer(shared, tmp_path):
    """An equation where the formula is one, else the answer without its unit: never the answer with its unit."""
    datasets.load_tasks()
    datasets.prepare("asdiv", from_folder=shared / "data", data_dir=tmp_path)
    rows = published(shared, "asdiv/asdiv.jsonl.gz")
    numeric = 0
    for row, example in zip(rows, datasets.read_examples("asdiv", "train", tmp_path), strict=True):
        answer = row["answer"].split("(")[0].strip()
        assert datasets.labels_match(datasets.get("asdiv"), example.label, answer), (
            row["id"],
            example.label,
            answer,
        )
        numeric += datasets.labels_match(datasets.get("asdiv"), answer, f"{answer} + 0")
    assert numeric > 2_000


def test_choices_of_cqa_hold_the_label(shared, prepared):
    if prepared[0] != "cqa":
        pytest.skip("only CQA has choices of its own in every row")
    assert all(
        example.label in example.choices and len(example.choices) == 5
        for example in examples_of(prepared, "test")
    )
