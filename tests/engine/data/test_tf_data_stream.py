"""A stream that is not indexed: tf.data's iterator, saved with the checkpoint and gone on from exactly."""

import numpy as np
import pytest
import seqio
import tensorflow as tf

from stepdistill_jax.engine.data.dataset_config import DatasetConfig, get_dataset
from stepdistill_jax.engine.data.tf_data_stream import TfDataStream
from stepdistill_jax.engine.data.train_stream import TrainStream

NUM_EXAMPLES = 60


def numbered(split, shuffle_files=False, seed=None):
    """Example i is i + 2, then the end."""
    return tf.data.Dataset.range(NUM_EXAMPLES).map(
        lambda i: {
            "inputs": tf.cast(tf.fill([3 + i % 4], i + 2), tf.int32),
            "targets": tf.cast(tf.stack([i + 2, 1]), tf.int32),
        }
    )


def through_python(split, shuffle_files=False, seed=None):
    spec = {name: tf.TensorSpec([None], tf.int32) for name in ("inputs", "targets")}

    def read():
        while True:
            yield {"inputs": [7, 8], "targets": [9, 1]}

    return tf.data.Dataset.from_generator(read, output_signature=spec)


@pytest.fixture
def tasks():
    vocabulary = seqio.PassThroughVocabulary(80, eos_id=1)
    names = []
    for name, read in (("numbered", numbered), ("endless", through_python)):
        seqio.TaskRegistry.add(
            f"tf_data_{name}",
            source=seqio.FunctionDataSource(read, splits=("train",)),
            preprocessors=[],
            output_features={
                feature: seqio.Feature(vocabulary, add_eos=False) for feature in ("inputs", "targets")
            },
            shuffle_buffer_size=25,
        )
        names.append(f"tf_data_{name}")
    seqio.MixtureRegistry.add("tf_data_mixture", ["tf_data_numbered"], default_rate=1.0)
    yield
    seqio.MixtureRegistry.remove("tf_data_mixture")
    for name in names:
        seqio.TaskRegistry.remove(name)


def stream_of(name="tf_data_mixture", shard_id=0, num_shards=1, **changes):
    settings = {
        "mixture_or_task_name": name,
        "task_feature_lengths": {"inputs": 12, "targets": 8},
        "split": "train",
        "batch_size": 4,
        "shuffle": True,
        "seed": 5,
        "pack": True,
        "max_indexed_examples": 10,
        **changes,
    }
    return get_dataset(DatasetConfig(**settings), shard_id, num_shards, seqio.EncDecFeatureConverter)


def take(batches, number):
    return [next(batches) for _ in range(number)]


def assert_same(first, second):
    assert len(first) == len(second)
    for batch, other in zip(first, second, strict=True):
        for name in batch:
            np.testing.assert_array_equal(batch[name], other[name], err_msg=name)


def test_more_examples_than_the_limit_are_read_by_tf_data_and_that_is_said(tasks, capsys):
    assert isinstance(stream_of(), TfDataStream)
    assert "max_indexed_examples=10, so tf.data reads tf_data_mixture" in capsys.readouterr().err
    assert isinstance(stream_of(max_indexed_examples=NUM_EXAMPLES), TrainStream)


def test_a_stream_goes_on_from_every_saved_state(tasks, tmp_path):
    batches = stream_of().batches()
    whole = []
    for step in range(1, 13):
        whole += take(batches, 1)
        (tmp_path / f"checkpoint_{step}").mkdir()
        batches.save_state(tmp_path, step)
    assert batches.next_draw == 12
    for step in (1, 5, 11):
        rest = stream_of().batches(step, model_dir=tmp_path, step=step)
        assert_same(whole[step:], take(rest, 12 - step))
        assert rest.next_draw == 12


def test_states_whose_checkpoints_are_gone_are_dropped_but_for_the_newest(tasks, tmp_path):
    batches = stream_of().batches()
    (tmp_path / "checkpoint_1").mkdir()
    for step in range(1, 6):
        next(batches)
        batches.save_state(tmp_path, step)
    left = {path.name for path in (tmp_path / "stream_state").iterdir()}
    assert left == {"checkpoint_1", "checkpoint_4", "checkpoint_5"}


def test_another_seed_gives_another_order(tasks):
    first, again, other = (take(stream_of(seed=seed).batches(), 3) for seed in (1, 1, 2))
    assert_same(first, again)
    assert not all(
        np.array_equal(first[i]["decoder_target_tokens"], other[i]["decoder_target_tokens"]) for i in range(3)
    )


def test_processes_read_different_rows(tasks):
    parts = [take(stream_of(shard_id=i, num_shards=2, pack=False).batches(), 10) for i in range(2)]
    seen = [{int(row[0]) for batch in part for row in batch["decoder_target_tokens"]} for part in parts]
    assert parts[0][0]["decoder_target_tokens"].shape == (2, 8)
    assert not seen[0] & seen[1]


def test_the_spec_and_padding_are_those_of_the_global_batch(tasks):
    stream = stream_of(num_shards=2)
    batches = stream.batches()
    batch = next(batches)
    assert {name: tuple(spec.shape) for name, spec in stream.batch_spec().items()} == {
        name: (4, rows.shape[1]) for name, rows in batch.items()
    }
    assert batches.token_counts["inputs"] == (2 * np.count_nonzero(batch["encoder_input_tokens"]), 48)


def test_a_missing_state_is_named(tasks, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"checkpoint_3/process-00000-of-00001; there is nothing"):
        stream_of().batches(3, model_dir=tmp_path, step=3)


def test_an_endless_source_whose_position_cannot_be_saved_is_refused(tasks):
    stream = stream_of("tf_data_endless", shuffle=False)
    with pytest.raises(ValueError, match=r"its tf.data position cannot be saved .*; raise DatasetConfig\."):
        stream.batches()
