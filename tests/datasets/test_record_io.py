"""Records come back as they were written, TFDS opens them, and damage is named."""

import pytest
import tensorflow_datasets as tfds

from stepdistill_jax.datasets import record_io

FEATURES = {"text": "text", "choices": "texts", "count": "int", "known": "bool"}
ROWS = [
    {"text": f"größe {i}\nnext line", "choices": ("a",) * (i % 3), "count": i - 1, "known": i % 2 == 0}
    for i in range(7)
]


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "deep" / "examples"
    record_io.write_records(
        folder,
        name="riddles",
        features=FEATURES,
        splits={"train": (row for row in ROWS), "test": ROWS[:2]},
        manifest={"source": "made up"},
        shard_size=3,
        licence="CC0",
    )
    return folder


def test_records_come_back_in_order_over_shards(folder):
    assert list(record_io.read_records(folder, "train")) == ROWS
    assert list(record_io.read_records(folder, "test")) == ROWS[:2]


def test_shards_are_named_by_their_number_and_nothing_else_is_left(folder):
    names = sorted(path.name for path in folder.iterdir())
    assert names == [
        "LICENSE",
        "dataset_info.json",
        "features.json",
        "manifest.json",
        "test-00000-of-00001.tfrecord",
        "train-00000-of-00003.tfrecord",
        "train-00001-of-00003.tfrecord",
        "train-00002-of-00003.tfrecord",
    ]
    assert [path.name for path in folder.parent.iterdir()] == ["examples"]


def test_tfds_opens_the_folder(folder):
    builder = tfds.builder_from_directory(str(folder))
    assert builder.info.splits["train"].num_examples == 7
    assert builder.info.splits["train"].shard_lengths == [3, 3, 1]
    first = next(iter(tfds.as_numpy(builder.as_dataset(split="test"))))
    assert first["text"].decode() == ROWS[0]["text"]


def test_manifest_counts_and_keeps_what_the_writer_said(folder):
    manifest = record_io.verify(folder)
    assert manifest["counts"] == {"train": 7, "test": 2}
    assert manifest["source"] == "made up"


def test_writing_twice_gives_the_same_bytes(folder):
    before = record_io.read_manifest(folder)
    record_io.write_records(
        folder,
        name="riddles",
        features=FEATURES,
        splits={"train": ROWS, "test": ROWS[:2]},
        manifest={"source": "made up"},
        shard_size=3,
        licence="CC0",
    )
    assert record_io.verify(folder) == before


@pytest.mark.parametrize("damage", ["truncated", "flipped", "missing"])
def test_verify_names_the_damaged_shard(folder, damage):
    shard = folder / "train-00001-of-00003.tfrecord"
    content = bytearray(shard.read_bytes())
    if damage == "truncated":
        shard.write_bytes(content[:-9])
    elif damage == "flipped":
        content[len(content) // 2] ^= 1
        shard.write_bytes(content)
    else:
        shard.unlink()
    with pytest.raises(ValueError, match="train-00001-of-00003"):
        record_io.verify(folder)
    with pytest.raises(ValueError, match="train-00001-of-00003"):
        list(record_io.read_records(folder, "train"))


def test_a_bad_record_is_named_and_the_older_folder_stays(folder):
    bad = [ROWS[0], {**ROWS[1], "count": "three"}]
    with pytest.raises(ValueError, match="train, record 1: 'count' is 'three'"):
        record_io.write_records(folder, name="riddles", features=FEATURES, splits={"train": bad})
    assert record_io.verify(folder)["counts"]["train"] == 7
    assert [path.name for path in folder.parent.iterdir()] == ["examples"]


def test_an_empty_split_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="Split 'test' has no examples"):
        record_io.write_records(
            tmp_path / "examples", name="riddles", features=FEATURES, splits={"train": ROWS, "test": []}
        )
    assert not list(tmp_path.iterdir())


def test_an_unfinished_folder_and_an_unknown_split_are_named(folder, tmp_path):
    assert record_io.read_manifest(tmp_path / "nowhere") is None
    with pytest.raises(ValueError, match=r"no manifest\.json"):
        record_io.verify(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="no split 'dev'; it has"):
        list(record_io.read_records(folder, "dev"))
