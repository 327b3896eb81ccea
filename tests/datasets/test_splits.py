"""The cuts are the authors': every row once, in the order of NumPy's generators."""

import gzip
import json

import numpy as np

from stepdistill_jax.datasets import splits


def test_a_tenth_of_train_is_held_out_and_every_row_kept_once():
    rows = list(range(9741))
    cut = splits.hold_out_validation({"train": rows, "test": [-1]})
    assert {split: len(part) for split, part in cut.items()} == {"train": 8766, "validation": 975, "test": 1}
    assert sorted([*cut["train"], *cut["validation"]]) == rows


def test_a_dataset_without_a_test_split_is_cut_too():
    assert splits.hold_out_validation({"train": list(range(10))}).keys() == {"train", "validation"}


def test_validation_is_the_head_of_the_permutation_in_its_order():
    # What datasets.Dataset.train_test_split(test_size=0.1, seed=0) of Hugging Face datasets gives for 800 rows: test
    # indices are permutation[:n_test], train indices permutation[n_test:n_test + n_train] (arrow_dataset.py).
    order = np.random.default_rng(seed=0).permutation(800).tolist()
    cut = splits.hold_out_validation({"train": range(800), "test": []})
    assert cut["validation"] == order[:80]
    assert cut["train"] == order[80:]


def test_svamp_json_cut_by_the_permutation_is_the_published_pair_of_files(shared):
    def read(name):
        with gzip.open(shared / "data" / "svamp" / name, "rt", encoding="utf-8") as file:
            text = file.read()
        return json.loads(text) if text.startswith("[") else [json.loads(line) for line in text.splitlines()]

    cut = splits.svamp_published(read("SVAMP.json.gz"))
    for split in ("train", "test"):
        from_whole = [(f"{row['Body']}\n{row['Question']}", row["Equation"]) for row in cut[split]]
        assert from_whole == [(row["input"], row["label"]) for row in read(f"svamp_{split}.json.gz")]
