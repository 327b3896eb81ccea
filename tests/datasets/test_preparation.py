"""Rows become examples in TFRecords; what is wrong with a row is named, and then nothing is written."""

import shutil

import pytest
import tensorflow_datasets as tfds
from riddles import RIDDLES, write_jsonl

from stepdistill_jax import datasets
from stepdistill_jax.base.whole_files import file_sha256
from stepdistill_jax.datasets import preparation, record_io
from stepdistill_jax.launching import task_modules


def test_rows_become_examples_in_order(register_dataset, data_folder, source_folder):
    register_dataset()
    manifest = datasets.prepare("riddles", from_folder=source_folder)
    assert manifest["counts"] == {"train": 10, "test": 2}
    examples = datasets.read_examples("riddles", "train")
    assert [example.inputs for example in examples] == [row["question"] for row in RIDDLES[:10]]
    assert examples[3] == datasets.Example(
        example_id="riddles/train/3",
        dataset="riddles",
        split="train",
        inputs="What has 6 legs?",
        label="a stool",
        choices=("a stool", "a table"),
        explanation="It stands on 6.",
        source_split="train",
        source_row=3,
    )


def test_a_dataset_without_validation_says_how_to_cut_one(register_dataset, data_folder, source_folder):
    register_dataset()
    [note] = datasets.prepare("riddles", from_folder=source_folder)["notes"]
    assert note.startswith("no validation split: ")
    assert "split_rows=datasets.hold_out_validation" in note


def test_tfds_opens_the_examples(register_dataset, data_folder, source_folder):
    register_dataset()
    datasets.prepare("riddles", from_folder=source_folder)
    builder = tfds.builder_from_directory(str(data_folder / "riddles" / "examples"))
    assert {name: split.num_examples for name, split in builder.info.splits.items()} == {
        "train": 10,
        "test": 2,
    }
    assert set(builder.info.features) == {
        *("example_id", "dataset", "split", "inputs", "label", "has_label", "choices", "explanation"),
        *("source_split", "source_row"),
    }


def test_manifest_says_where_the_rows_came_from(register_dataset, data_folder, source_folder):
    register_dataset(licence="CC0")
    datasets.prepare("riddles", from_folder=source_folder)
    manifest = record_io.verify(data_folder / "riddles" / "examples")
    assert manifest["licence"] == "CC0"
    assert str(source_folder) in manifest["source"]
    assert set(manifest["source_sha256"].values()) == {
        file_sha256(source_folder / f"{split}.jsonl") for split in ("train", "test")
    }


def test_preparing_again_changes_nothing_and_says_so(register_dataset, data_folder, source_folder):
    register_dataset()
    assert not datasets.prepare("riddles", from_folder=source_folder).get("unchanged")
    shard = data_folder / "riddles" / "examples" / "train-00000-of-00001.tfrecord"
    before = shard.stat()
    assert datasets.prepare("riddles", from_folder=source_folder)["unchanged"]
    assert (shard.stat().st_ino, shard.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    write_jsonl(source_folder / "test.jsonl", RIDDLES[9:])
    assert datasets.prepare("riddles", from_folder=source_folder)["counts"]["test"] == 3


def test_preparing_again_mends_a_damaged_folder(register_dataset, data_folder, source_folder):
    register_dataset()
    datasets.prepare("riddles", from_folder=source_folder)
    (data_folder / "riddles" / "examples" / "train-00000-of-00001.tfrecord").write_bytes(b"damaged")
    datasets.prepare("riddles", from_folder=source_folder)
    record_io.verify(data_folder / "riddles" / "examples")
    assert len(datasets.read_examples("riddles", "train")) > 0


def test_validation_comes_out_of_train_with_its_published_row_number(
    register_dataset, data_folder, source_folder
):
    register_dataset(split_rows=datasets.hold_out_validation)
    manifest = datasets.prepare("riddles", from_folder=source_folder)
    assert manifest["counts"] == {"train": 9, "validation": 1, "test": 2}
    train, validation = (datasets.read_examples("riddles", split) for split in ("train", "validation"))
    assert sorted(example.source_row for example in train + validation) == list(range(10))
    assert {example.source_split for example in validation} == {"train"}
    for example in train + validation:
        assert example.inputs == RIDDLES[example.source_row]["question"]
    assert len({example.example_id for example in train + validation}) == 10


def test_partial_splits_and_missing_gold_labels_are_said(register_dataset, data_folder, source_folder):
    rows = [{**row, "answer": None} for row in RIDDLES[:4]]
    write_jsonl(source_folder / "train.jsonl", rows)
    register_dataset(expected_counts={"train": 1_200, "test": 2})
    notes = "\n".join(datasets.prepare("riddles", from_folder=source_folder)["notes"])
    assert "train is partial: 4 of 1,200 rows" in notes
    assert "4 rows without a gold label" in notes
    assert "riddles_step_by_step_teacher_label" in notes
    assert "test" not in notes
    assert {example.label for example in datasets.read_examples("riddles", "train")} == {None}


def test_rows_without_a_published_number_keep_distinct_ids(register_dataset, data_folder, source_folder):
    write_jsonl(source_folder / "train.jsonl", [{**row, "idx": None} for row in RIDDLES[:3]])
    register_dataset()
    datasets.prepare("riddles", from_folder=source_folder)
    examples = datasets.read_examples("riddles", "train")
    assert {example.source_row for example in examples} == {-1}
    assert len({example.example_id for example in examples}) == 3


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"answer": "a stool"}, r"train\.jsonl:11: no field 'question'"),
        ({"question": " ", "answer": "a stool"}, r"train\.jsonl:11: the inputs are empty"),
        ({"question": 7, "answer": "a stool"}, r"train\.jsonl:11: "),
        ({"question": "What?", "answer": 7}, r"train\.jsonl:11: .*7"),
        (
            {"question": "What?", "answer": "a chair"},
            r"train\.jsonl:11: the label 'a chair' is none of the choices",
        ),
    ],
)
def test_a_malformed_row_is_named_and_nothing_is_written(
    register_dataset, data_folder, source_folder, row, message
):
    write_jsonl(source_folder / "train.jsonl", [*RIDDLES[:10], row])
    register_dataset()
    with pytest.raises(ValueError, match=message) as caught:
        datasets.prepare("riddles", from_folder=source_folder)
    assert "\n" not in str(caught.value)
    assert not (data_folder / "riddles").exists()


def test_a_dataset_that_is_not_prepared_says_how_to(register_dataset, data_folder):
    register_dataset()
    with pytest.raises(FileNotFoundError, match="Run: stepdistill prepare riddles"):
        datasets.read_examples("riddles", "train")
    with pytest.raises(ValueError, match=r"has no public home; give its files by --from FOLDER"):
        datasets.prepare("riddles")


def test_an_unknown_split_names_those_there_are(register_dataset, data_folder, source_folder):
    register_dataset()
    datasets.prepare("riddles", from_folder=source_folder)
    with pytest.raises(ValueError, match="no split 'dev'; it has train, test"):
        datasets.read_examples("riddles", "dev")


def test_the_embedded_dataset_needs_no_files(data_folder):
    task_modules.load_tasks()
    manifest = datasets.prepare("wordproblems")
    assert manifest["counts"] == {"train": 6000, "validation": 300, "test": 500}
    assert not manifest["notes"]
    assert all(example.explanation for example in datasets.read_examples("wordproblems", "test"))


def test_the_t5_vocabulary_is_copied_after_its_checksum(shared, data_folder):
    folder = shared / "data" / "vocab"
    datasets.prepare("t5_vocabulary", from_folder=folder)
    assert (data_folder / "vocabularies" / "t5.model").read_bytes() == (
        folder / "t5_spiece.model"
    ).read_bytes()
    assert datasets.prepare("t5_vocabulary", from_folder=folder)["unchanged"]


def test_another_model_is_not_taken_for_the_t5_vocabulary(data_folder, tmp_path):
    from stepdistill_jax.datasets.wordproblems import VOCABULARY_PATH

    shutil.copy(VOCABULARY_PATH, tmp_path / "spiece.model")
    with pytest.raises(FileNotFoundError, match="no SentencePiece model with T5's sha256 d60acb12"):
        datasets.prepare("t5_vocabulary", from_folder=tmp_path)
    assert not (data_folder / "vocabularies").exists()


def test_preparation_takes_data_dir_by_argument(register_dataset, tmp_path, source_folder):
    register_dataset()
    preparation.prepare("riddles", from_folder=source_folder, data_dir=tmp_path / "other")
    assert len(datasets.read_examples("riddles", "train", tmp_path / "other")) == 10
