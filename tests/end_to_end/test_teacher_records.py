"""A teacher's records train; a damaged shard is named before training starts."""

import shutil

import pytest
import seqio
import tensorflow_datasets as tfds


def _truncate(shard):
    shard.write_bytes(shard.read_bytes()[:-11])


def _flip_a_bit(shard):
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 0b100
    shard.write_bytes(bytes(content))


DAMAGES = {"truncated": _truncate, "bit-flipped": _flip_a_bit, "missing": lambda shard: shard.unlink()}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("part", ["examples", "rationales/worked"])
def test_damaged_shard_is_named_before_training_starts(train, data_dir, tmp_path, monkeypatch, damage, part):
    copy = tmp_path / "data"
    shutil.copytree(data_dir, copy)
    [shard] = (copy / "wordproblems" / part).glob("train-*.tfrecord")
    DAMAGES[damage](shard)
    with pytest.raises(ValueError, match=shard.name) as excinfo:
        train(tmp_path / "run", data_dir=copy)
    assert "\n" not in str(excinfo.value)
    assert not list((tmp_path / "run").glob("checkpoint_*"))
    assert not (tmp_path / "run" / "metrics.jsonl").exists()
    # Where token ids are kept from an earlier start, records are not read again, but checked all the same.
    monkeypatch.setenv("STEPDISTILL_DATA_DIR", str(copy))
    task = "wordproblems_rationale" if part != "examples" else "wordproblems_label"
    with pytest.raises(ValueError, match=shard.name):
        seqio.get_mixture_or_task(task).source.content_id("train")


def test_seqio_reads_the_records_by_the_task_and_tfds_opens_the_folder(data_dir, monkeypatch):
    monkeypatch.setenv("STEPDISTILL_DATA_DIR", str(data_dir))
    task = seqio.get_mixture_or_task("wordproblems_rationale")
    [first] = task.get_dataset(split="train", shuffle=False, sequence_length=None).take(1).as_numpy_iterator()
    builder = tfds.builder_from_directory(str(data_dir / "wordproblems" / "rationales" / "worked"))
    [record] = builder.as_dataset(split="train").take(1).as_numpy_iterator()
    words = task.output_features["targets"].vocabulary
    assert first["example_id"] == record["example_id"]
    assert words.decode([int(token) for token in first["targets"]]) == record["rationale"].decode()
