"""The stream's promises on two made-up tasks: labels of 5 to 8 target tokens, rationales of 9 to 14."""

import collections
import itertools
from fractions import Fraction

import numpy as np
import pytest
import seqio
import tensorflow as tf

from stepdistill_jax.engine.train_stream import (
    TokenizedTask,
    TrainStream,
    padding_fraction,
    shuffled,
    task_of_draw,
    tokenize_task,
)

LENGTHS = {"inputs": 24, "targets": 20}
SIZES = {"label": 7, "rationale": 11}


def made_up_task(name, num_examples):
    """Example i of a task has an id of its own as its first input and target token, and ends with 1."""
    first_id = 100 if name == "label" else 200
    rng = np.random.default_rng(first_id)
    low, high = (5, 9) if name == "label" else (9, 15)
    sizes = {"inputs": rng.integers(4, 10, num_examples), "targets": rng.integers(low, high, num_examples)}
    rows = {
        feature: [[first_id + i, *rng.integers(2, 99, size - 2), 1] for i, size in enumerate(sizes[feature])]
        for feature in sizes
    }
    return TokenizedTask(
        name=name,
        tokens={feature: np.concatenate(values).astype(np.int32) for feature, values in rows.items()},
        offsets={feature: np.cumsum([0, *map(len, values)]) for feature, values in rows.items()},
    )


TASKS = [made_up_task(name, size) for name, size in SIZES.items()]


def make_stream(tasks=TASKS, rates=None, **settings):
    usual = {"converter_cls": seqio.EncDecFeatureConverter, "lengths": LENGTHS, "batch_size": 4, "seed": 3}
    return TrainStream(tasks, rates or [1.0] * len(tasks), **{**usual, **settings})


def take(stream, num_batches, *, step=0, first_draw=0):
    """[(batch, next draw)] of the next batches."""
    return list(itertools.islice(stream.batches(step=step, first_draw=first_draw), num_batches))


def example_ids(batch):
    """The examples of a batch, by their first target token, row by row."""
    return [int(token) for row in batch["decoder_target_tokens"] for token in row if token >= 100]


def assert_same_batches(first, second):
    assert len(first) == len(second)
    for (batch, draw), (other, other_draw) in zip(first, second, strict=True):
        assert draw == other_draw
        assert set(batch) == set(other)
        for name in batch:
            np.testing.assert_array_equal(batch[name], other[name], err_msg=name)


@pytest.mark.parametrize("pack", [True, False])
def test_every_example_of_a_pass_is_seen_once(pack):
    taken = take(make_stream(pack=pack), 60)
    num_draws = taken[-1][1]
    seen = collections.Counter(token for batch, _ in taken for token in example_ids(batch))
    assert sum(seen.values()) == num_draws
    for name, first_id in (("label", 100), ("rationale", 200)):
        counts = [seen[first_id + i] for i in range(SIZES[name])]
        turns = num_draws // 2 + (num_draws % 2 if name == "label" else 0)
        # Whole passes count for every example, and the begun one for some.
        assert sum(counts) == turns
        assert set(counts) <= {turns // SIZES[name], turns // SIZES[name] + 1}


@pytest.mark.parametrize("rates", [[1.0, 1.0], [3.0, 1.0], [0.1, 0.7], [1.0, 0.0], [2, 3, 5]])
def test_rates_are_kept_as_evenly_as_can_be(rates):
    fractions = [Fraction(rate).limit_denominator(10**6) for rate in rates]
    turns = [0] * len(rates)
    for draw in range(400):
        task, earlier = task_of_draw(draw, fractions)
        assert earlier == turns[task]
        turns[task] += 1
        shares = [(draw + 1) * rate / sum(rates) for rate in rates]
        assert all(abs(turn - share) < 2 for turn, share in zip(turns, shares, strict=True))
    assert turns == [round(400 * rate / sum(rates)) for rate in rates]


def test_a_pass_of_each_task_goes_by_its_own_count():
    stream = make_stream()
    draws = [stream.example_of_draw(draw) for draw in range(2 * 7 * 11)]
    of_label = [example for task, example in draws if task == 0]
    for start in range(0, len(of_label), 7):
        assert sorted(of_label[start : start + 7]) == list(range(7))
    assert of_label[:7] != of_label[7:14]


@pytest.mark.parametrize("num_shards", [2, 4])
@pytest.mark.parametrize("pack", [True, False])
def test_shards_put_together_are_the_batches_of_one_process(num_shards, pack):
    whole = take(make_stream(pack=pack), 5)
    shards = [take(make_stream(pack=pack, shard_id=i, num_shards=num_shards), 5) for i in range(num_shards)]
    together = [
        ({name: np.concatenate([batch[name] for batch, _ in parts]) for name in parts[0][0]}, parts[0][1])
        for parts in zip(*shards, strict=True)
    ]
    assert_same_batches(whole, together)


@pytest.mark.parametrize("pack", [True, False])
def test_a_stream_goes_on_from_any_saved_draw(pack):
    whole = take(make_stream(pack=pack), 12)
    for step in (1, 4, 11):
        rest = take(make_stream(pack=pack), 12 - step, step=step, first_draw=whole[step - 1][1])
        assert_same_batches(whole[step:], rest)


def test_two_iterators_of_a_stream_do_not_disturb_each_other():
    stream = make_stream()
    alone = take(make_stream(), 10)
    # One far ahead in another pass, one a step behind, as the first batch of a run and its training are.
    ahead = stream.batches(step=0, first_draw=1000)
    behind = stream.batches(step=0, first_draw=0)
    taken = []
    for _ in range(10):
        next(ahead)
        taken.append(next(behind))
    assert_same_batches(alone, taken)
    assert_same_batches(alone[:3], take(stream, 3))


def test_another_seed_gives_another_order_and_no_shuffling_the_order_of_the_data():
    def order(**settings):
        stream = make_stream(TASKS[:1], **settings)
        return [stream.example_of_draw(draw)[1] for draw in range(14)]

    assert order(seed=3) == order(seed=3)
    assert order(seed=3) != order(seed=4)
    assert order(shuffle=False) == [0, 1, 2, 3, 4, 5, 6] * 2


def test_packed_rows_hold_whole_examples_one_after_another():
    for batch, _ in take(make_stream(), 20):
        for side, feature in (("encoder", "inputs"), ("decoder", "targets")):
            tokens = batch["encoder_input_tokens" if side == "encoder" else "decoder_target_tokens"]
            assert tokens.shape == (4, LENGTHS[feature])
            for row, segments, positions in zip(
                tokens, batch[f"{side}_segment_ids"], batch[f"{side}_positions"], strict=True
            ):
                np.testing.assert_array_equal(segments > 0, row > 0)
                for segment in range(1, segments.max() + 1):
                    (places,) = np.nonzero(segments == segment)
                    np.testing.assert_array_equal(places, np.arange(places[0], places[0] + len(places)))
                    np.testing.assert_array_equal(positions[places], np.arange(len(places)))
                    first = row[places[0]]
                    task, index = (0, first - 100) if first < 200 else (1, first - 200)
                    np.testing.assert_array_equal(row[places], TASKS[task].feature(feature, int(index)))
        np.testing.assert_array_equal(
            batch["encoder_segment_ids"].max(axis=1), batch["decoder_segment_ids"].max(axis=1)
        )


def test_packing_fills_rows():
    packed = np.mean([padding_fraction(batch) for batch, _ in take(make_stream(), 10)])
    unpacked = np.mean([padding_fraction(batch) for batch, _ in take(make_stream(pack=False), 10)])
    assert packed < 0.4 < unpacked


def test_an_unpacked_row_holds_one_example():
    for batch, draw in take(make_stream(pack=False), 1):
        assert draw == 4
        assert len(example_ids(batch)) == 4
        assert "decoder_segment_ids" not in batch
        assert (batch["decoder_target_tokens"][:, 0] >= 100).all()
        np.testing.assert_array_equal(batch["decoder_loss_weights"], batch["decoder_target_tokens"] > 0)


@pytest.mark.parametrize(("pack", "num_batches"), [(False, 3), (True, 2)])
def test_one_pass_ends_with_a_batch_filled_up_with_empty_rows(pack, num_batches):
    taken = list(make_stream(TASKS[1:], pack=pack, num_epochs=1).batches(step=0, first_draw=0))
    assert [len(batch["decoder_target_tokens"]) for batch, _ in taken] == [4] * len(taken)
    assert sorted(token for batch, _ in taken for token in example_ids(batch)) == list(range(200, 211))
    assert taken[-1][1] == 11
    if not pack:
        assert len(taken) == num_batches
        assert not taken[-1][0]["decoder_target_tokens"][-1].any()
        assert not taken[-1][0]["decoder_loss_weights"][-1].any()


def test_passes_of_a_mixture_cannot_be_counted():
    with pytest.raises(ValueError, match=r"num_epochs=1 needs one task, got \['label', 'rationale'\]"):
        make_stream(num_epochs=1)


def test_a_shuffle_is_a_permutation_that_depends_on_seed_task_and_pass():
    orders = {
        (seed, salt, epoch): tuple(shuffled(50, seed=seed, salt=salt, epoch=epoch))
        for seed in (0, 1, 2**31)
        for salt in ("svamp_label", "svamp_rationale")
        for epoch in (0, 1)
    }
    assert all(sorted(order) == list(range(50)) for order in orders.values())
    assert len(set(orders.values())) == len(orders)


def test_a_shuffle_is_the_same_everywhere_and_for_ever():
    # Written down from this implementation: a change would put every resumed run into another order.
    assert shuffled(10, seed=0, salt="svamp_label", epoch=0).tolist() == [6, 2, 8, 4, 1, 3, 0, 7, 9, 5]
    assert shuffled(10, seed=7, salt="svamp_rationale", epoch=3).tolist() == [6, 1, 8, 9, 2, 3, 7, 0, 5, 4]


def test_a_shuffle_prefers_no_place():
    """Each of 20 examples comes first in about 1 of 20 of 2000 passes: within 5 standard deviations of 9.7."""
    first = collections.Counter(int(shuffled(20, seed=0, salt="x", epoch=epoch)[0]) for epoch in range(2000))
    assert all(abs(first[example] - 100) < 49 for example in range(20))


@pytest.fixture
def seqio_task():
    def rows(split, shuffle_files=False, seed=None):
        sizes = {"train": [3, 8, 5], "empty": []}[split]
        return tf.data.Dataset.from_generator(
            lambda: ({"inputs": [9] * size, "targets": [4, 1]} for size in sizes),
            output_signature={name: tf.TensorSpec([None], tf.int32) for name in ("inputs", "targets")},
        )

    vocabulary = seqio.PassThroughVocabulary(40, eos_id=1)
    task = seqio.TaskRegistry.add(
        "stream_test_task",
        source=seqio.FunctionDataSource(rows, splits=("train", "empty")),
        preprocessors=[],
        output_features={name: seqio.Feature(vocabulary, add_eos=False) for name in ("inputs", "targets")},
    )
    yield task
    seqio.TaskRegistry.remove("stream_test_task")


def test_a_task_is_tokenised_in_order_and_trimmed(seqio_task):
    task = tokenize_task(
        seqio_task, split="train", lengths={"inputs": 6, "targets": 6}, features=["inputs", "targets"]
    )
    assert task.num_examples == 3
    assert task.lengths("inputs").tolist() == [3, 6, 5]
    assert task.feature("inputs", 2).tolist() == [9] * 5
    assert task.tokens["inputs"].dtype == np.int32


def test_a_split_without_examples_is_named(seqio_task):
    with pytest.raises(ValueError, match=r"stream_test_task/empty: no examples; prepare the dataset again"):
        tokenize_task(seqio_task, split="empty", lengths={"inputs": 6}, features=["inputs"])
