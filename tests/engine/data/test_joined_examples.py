"""Rows of inputs and targets together: what SeqIO's converters for language models make of the same examples."""

import numpy as np
import pytest
import seqio
import tensorflow as tf

from stepdistill_jax.engine.data.joined_examples import joined
from stepdistill_jax.engine.data.tokenized_task import TokenizedTask
from stepdistill_jax.engine.data.train_stream import TrainStream, padding_fractions

LENGTHS = {"inputs": 14, "targets": 10}
NUM_EXAMPLES = 23


def made_up_task(features=("inputs", "targets"), *, name="made up", num_examples=NUM_EXAMPLES, seed=0):
    """Example i has an id of its own, 100 + i, as its first target; each fourth has no inputs, each tenth just an end."""
    rng = np.random.default_rng(seed)
    rows = {feature: [] for feature in ("inputs", "targets")}
    for i in range(num_examples):
        num_inputs = 0 if i % 4 == 3 else rng.integers(1, LENGTHS["inputs"] + 1)
        num_targets = 2 if i % 10 == 9 else rng.integers(2, LENGTHS["targets"] + 1)
        rows["inputs"].append(rng.integers(2, 99, num_inputs))
        rows["targets"].append([100 + i, *rng.integers(2, 99, num_targets - 2), 1])
    return TokenizedTask(
        name=name,
        tokens={feature: np.concatenate(rows[feature]).astype(np.int32) for feature in features},
        offsets={feature: np.cumsum([0, *map(len, rows[feature])]) for feature in features},
        ids=np.array([f"{name} {i}".encode() for i in range(num_examples)]),
    )


TASK = made_up_task()


def lengths_of(task):
    return {feature: LENGTHS[feature] for feature in task.offsets}


def make_stream(tasks=(TASK,), *, converter_cls=seqio.PrefixLMFeatureConverter, **settings):
    usual = {"converter_cls": converter_cls, "lengths": lengths_of(tasks[0]), "batch_size": 4, "seed": 3}
    return TrainStream(list(tasks), [1.0] * len(tasks), **{**usual, **settings})


def take(stream, num_batches, *, first_draw=0):
    """[(batch, plan)] of the next batches."""
    batches = stream.batches(first_draw)
    return [(next(batches), batches.plan) for _ in range(num_batches)]


def by_seqio(converter_cls, task, indices, *, pack):
    """The rows that the converter makes by itself of some examples in this order."""
    examples = [{name: task.feature(name, int(i)) for name in task.offsets} for i in indices]
    dataset = tf.data.Dataset.from_generator(
        lambda: iter(examples),
        output_signature={name: tf.TensorSpec([None], tf.int32) for name in task.offsets},
    )
    return list(converter_cls(pack=pack)(dataset, lengths_of(task)).as_numpy_iterator())


def assert_same_row(row, expected):
    assert set(row) == set(expected)
    for name in expected:
        np.testing.assert_array_equal(row[name], expected[name], err_msg=name)
        assert row[name].dtype == expected[name].dtype


CONVERTERS = {
    "prefix LM": (seqio.PrefixLMFeatureConverter, TASK),
    "decoder with inputs": (seqio.DecoderFeatureConverter, TASK),
    "decoder with targets alone": (seqio.DecoderFeatureConverter, made_up_task(("targets",))),
    "LM": (seqio.LMFeatureConverter, made_up_task(("targets",))),
}


@pytest.mark.parametrize("kind", CONVERTERS)
def test_unpacked_batches_are_those_of_the_converter(kind):
    converter_cls, task = CONVERTERS[kind]
    taken = take(make_stream([task], converter_cls=converter_cls, pack=False), 6)
    indices = np.concatenate([plan.indices for _, plan in taken])
    expected = by_seqio(converter_cls, task, indices, pack=False)
    for place, row in enumerate(expected):
        batch, _ = taken[place // 4]
        assert_same_row({name: rows[place % 4] for name, rows in batch.items()}, row)


@pytest.mark.parametrize("kind", CONVERTERS)
def test_packed_rows_are_those_of_the_converter_for_the_same_examples(kind):
    converter_cls, task = CONVERTERS[kind]
    [(batch, plan)] = take(make_stream([task], converter_cls=converter_cls, batch_size=8), 1)
    fullest = np.argsort(-np.bincount(plan.rows))[:2]  # SeqIO takes a second a row
    for place in fullest:
        indices = plan.indices[plan.rows == place]
        assert len(indices) > 1
        [expected] = by_seqio(converter_cls, task, indices, pack=True)
        assert_same_row({name: rows[place] for name, rows in batch.items()}, expected)


def test_empty_rows_fill_up_the_last_batch():
    [*_, last] = make_stream(pack=False, num_epochs=1).batches()
    assert not last["decoder_target_tokens"][-1].any()
    assert not last["decoder_loss_weights"][-1].any()


@pytest.mark.parametrize("pack", [True, False])
def test_the_spec_of_a_batch_is_that_of_its_batches(pack):
    stream = make_stream(pack=pack)
    [(batch, _)] = take(stream, 1)
    assert {name: (tuple(spec.shape), spec.dtype) for name, spec in stream.batch_spec().items()} == {
        name: (rows.shape, rows.dtype) for name, rows in batch.items()
    }
    assert batch["decoder_target_tokens"].shape == (4, 24)


def test_tokens_are_counted_in_whole_rows():
    stream = make_stream()
    batches = stream.batches()
    for _ in range(5):
        batch = next(batches)
        [(real, size)] = batches.token_counts.values()
        assert (real, size) == (np.count_nonzero(batch["decoder_target_tokens"]), 4 * 24)
        assert padding_fractions(batches.token_counts) == {"padding_fraction": 1 - real / size}
    inputs, targets = (TASK.lengths(name).sum() for name in ("inputs", "targets"))
    assert stream.contents() == {"made up": {"examples": NUM_EXAMPLES, "inputs": inputs, "targets": targets}}


def test_length_buckets_cut_rows_to_the_inputs_and_targets_that_are_there():
    taken = take(make_stream(pack=False, length_buckets=3), 12)
    assert {batch["decoder_target_tokens"].shape[1] for batch, _ in taken} == {8, 16, 24}
    lengths = joined(TASK).lengths("targets")
    expected = by_seqio(seqio.PrefixLMFeatureConverter, TASK, range(NUM_EXAMPLES), pack=False)
    for batch, plan in taken:
        length = batch["decoder_target_tokens"].shape[1]
        assert lengths[plan.indices].max() <= length
        for place, index in enumerate(plan.indices):
            cut = {name: values[:length] for name, values in expected[index].items()}
            assert_same_row({name: rows[place] for name, rows in batch.items()}, cut)


@pytest.mark.parametrize("settings", [{"pack": True}, {"pack": False}, {"pack": False, "length_buckets": 3}])
def test_the_stream_goes_on_from_any_step(settings):
    whole = take(make_stream(**settings), 9)
    for step in (1, 6):
        first_draw = make_stream(**settings).first_draw(step)
        assert first_draw == whole[step - 1][1].next_draw
        for (batch, _), (other, _) in zip(
            whole[step:], take(make_stream(**settings), 9 - step, first_draw=first_draw), strict=True
        ):
            assert_same_row(batch, other)


@pytest.mark.parametrize("pack", [True, False])
def test_shards_put_together_are_the_batches_of_one_process(pack):
    whole = take(make_stream(pack=pack), 4)
    parts = [take(make_stream(pack=pack, shard_id=i, num_shards=2), 4) for i in range(2)]
    for (batch, _), *shards in zip(whole, *parts, strict=True):
        together = {name: np.concatenate([shard[name] for shard, _ in shards]) for name in batch}
        assert_same_row(together, batch)


def test_pairs_share_a_batch_and_come_once_a_pass():
    label, rationale = (made_up_task(name=name, seed=seed) for name, seed in (("label", 1), ("rationale", 2)))
    ids = np.array([str(i).encode() for i in range(NUM_EXAMPLES)])
    tasks = [TokenizedTask(task.name, task.tokens, task.offsets, ids) for task in (label, rationale)]
    stream = make_stream(tasks, paired=True)
    batches, seen = stream.batches(), []
    while batches.next_draw < 2 * NUM_EXAMPLES:
        next(batches)
        names = [name.split("/") for name in batches.example_names()]
        of = {task: sorted(i for kind, i in names if kind == task) for task in ("label", "rationale")}
        assert of["label"] == of["rationale"]
        seen += of["label"]
    assert {str(i) for i in range(NUM_EXAMPLES)} <= set(seen)


def test_an_example_without_targets_has_one_0_as_seqio_gives_it():
    task = TokenizedTask(
        name="without targets",
        tokens={"inputs": np.array([5, 6, 7, 8], np.int32), "targets": np.array([9, 1], np.int32)},
        offsets={"inputs": np.array([0, 3, 4]), "targets": np.array([0, 0, 2])},
    )
    both = np.array([0, 1])
    np.testing.assert_array_equal(joined(task).gathered("targets", both), [5, 6, 7, 0, 8, 9, 1])
    np.testing.assert_array_equal(joined(task).gathered("inputs_width", both), [3, 3, 3, 3, 1, 1, 1])
    [(batch, plan)] = take(make_stream([task], pack=False, batch_size=2, num_epochs=1), 1)
    for place, row in enumerate(by_seqio(seqio.PrefixLMFeatureConverter, task, plan.indices, pack=False)):
        assert_same_row({name: rows[place] for name, rows in batch.items()}, row)


class TargetsFirstConverter(seqio.PrefixLMFeatureConverter):
    """Joins the targets before the inputs."""

    def _concat_and_add_masks(self, features):
        swapped = {"inputs": features["targets"], "targets": features["inputs"]}
        return super()._concat_and_add_masks(swapped)


def test_a_converter_that_joins_otherwise_is_refused_and_tf_data_named():
    with pytest.raises(
        ValueError, match=r"TargetsFirstConverter joins .*set DatasetConfig.max_indexed_examples = 0"
    ):
        make_stream(converter_cls=TargetsFirstConverter)
    lengths = {**LENGTHS, "suffixes": 4}
    with pytest.raises(ValueError, match=r"PrefixSuffixLMFeatureConverter joins .*target_suffix_weights"):
        make_stream(converter_cls=seqio.PrefixSuffixLMFeatureConverter, lengths=lengths)
