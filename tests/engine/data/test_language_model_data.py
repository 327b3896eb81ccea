"""Which task features a language model reads, by its converter and the lengths, and the shapes of its batches."""

import numpy as np
import pytest
import seqio
import tensorflow as tf

from stepdistill_jax.engine import precompile
from stepdistill_jax.engine.data.dataset_config import (
    DatasetConfig,
    completed_lengths,
    full_feature_lengths,
    get_dataset,
    get_training_eval_datasets,
    read_features,
)
from stepdistill_jax.engine.data.tf_data_stream import TfDataStream
from stepdistill_jax.engine.data.train_stream import padding_fractions
from stepdistill_jax.engine.model import llama, models
from stepdistill_jax.engine.optim import optimizers

BOTH, TARGETS = {"inputs": 12, "targets": 8}, {"targets": 8}


def numbered(split, shuffle_files=False, seed=None):
    """Example i is i + 2, then the end."""
    return tf.data.Dataset.range(30).map(
        lambda i: {
            "inputs": tf.cast(tf.fill([3 + i % 4], i + 2), tf.int32),
            "targets": tf.cast(tf.stack([i + 2, 1]), tf.int32),
        }
    )


@pytest.fixture(scope="module", autouse=True)
def task():
    vocabulary = seqio.PassThroughVocabulary(80, eos_id=1)
    seqio.TaskRegistry.add(
        "language_model_numbered",
        source=seqio.FunctionDataSource(numbered, splits=("train",)),
        preprocessors=[],
        output_features={name: seqio.Feature(vocabulary, add_eos=False) for name in BOTH},
    )
    yield
    seqio.TaskRegistry.remove("language_model_numbered")


def config(lengths, **changes):
    settings = {
        "mixture_or_task_name": "language_model_numbered",
        "task_feature_lengths": lengths,
        "split": "train",
        "batch_size": 4,
        "shuffle": True,
        "seed": 5,
        "pack": True,
        **changes,
    }
    return DatasetConfig(**settings)


def shapes_of(stream):
    return {name: tuple(spec.shape) for name, spec in stream.batch_spec().items()}


def test_the_lengths_say_whether_a_decoder_reads_inputs():
    assert read_features(seqio.DecoderFeatureConverter, BOTH) == ("inputs", "targets")
    assert read_features(seqio.DecoderFeatureConverter, TARGETS) == ("targets",)
    assert read_features(seqio.PrefixLMFeatureConverter, TARGETS) == ("inputs", "targets")
    assert read_features(seqio.LMFeatureConverter, BOTH) == ("targets",)


@pytest.mark.parametrize("lengths", [BOTH, TARGETS])
@pytest.mark.parametrize("pack", [True, False])
def test_shapes_are_those_of_the_stream_for_a_decoder_with_and_without_inputs(lengths, pack):
    model = models.DecoderOnlyModel(
        llama.Llama(llama.LlamaConfig(vocab_size=80)),
        seqio.PassThroughVocabulary(80, eos_id=1),
        optimizers.adamw(),
    )
    cfg = config(lengths, pack=pack)
    stream = get_dataset(cfg, 0, 1, model.FEATURE_CONVERTER_CLS)
    shapes, types = precompile.batch_shapes(model, cfg)
    made = {name: shapes[name] for name in shapes_of(stream)}
    assert made == shapes_of(stream)
    assert set(made.values()) == {(4, sum(lengths.values()))}
    assert ("decoder_causal_attention" in made) == ("inputs" in lengths)
    assert set(types.values()) == {np.dtype(np.int32)}


def test_lengths_that_a_converter_cannot_use_are_refused():
    with pytest.raises(ValueError, match=r"must give 'inputs' and 'targets'"):
        get_dataset(config(TARGETS), 0, 1, seqio.PrefixLMFeatureConverter)
    with pytest.raises(ValueError, match=r"must give 'targets' in tokens"):
        full_feature_lengths(None, ("targets",), "some task")
    with pytest.raises(ValueError, match=r"has \['inputs'\]; the model reads \['targets'\]"):
        get_dataset(config(BOTH), 0, 1, seqio.LMFeatureConverter)


def test_what_lies_beside_the_targets_is_as_long_as_these_where_left_out():
    features = ("inputs", "targets", "task_ids")
    assert completed_lengths(BOTH, features) == {**BOTH, "task_ids": 8}
    assert completed_lengths({**BOTH, "task_ids": 5}, features)["task_ids"] == 5
    assert completed_lengths({"inputs": 3}, features) == {"inputs": 3}
    assert completed_lengths(None, features) is None


def test_a_pass_for_evaluation_holds_every_example_once():
    streams = get_training_eval_datasets(config(BOTH), 0, 1, None, seqio.DecoderFeatureConverter)
    batches = list(streams["language_model_numbered"].batches())
    ends = [np.count_nonzero(batch["decoder_target_tokens"] == 1) for batch in batches]
    assert sum(ends) == 30


def test_rows_that_tf_data_packs_are_joined_and_counted_alike():
    stream = get_dataset(config(BOTH, max_indexed_examples=0), 0, 1, seqio.DecoderFeatureConverter)
    assert isinstance(stream, TfDataStream)
    assert shapes_of(stream) == shapes_of(get_dataset(config(BOTH), 0, 1, seqio.DecoderFeatureConverter))
    batches = stream.batches()
    batch = next(batches)
    real = np.count_nonzero(batch["decoder_target_tokens"])
    assert batches.token_counts == {"targets": (real, 80)}
    assert padding_fractions(batches.token_counts) == {"padding_fraction": 1 - real / 80}
