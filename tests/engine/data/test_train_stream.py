"""The stream's promises on two made-up tasks: labels of 5 to 8 target tokens, rationales of 9 to 14."""

import collections
import gc
import weakref

import numpy as np
import pytest
import seqio

from stepdistill_jax.engine.data.tokenized_task import TokenizedTask
from stepdistill_jax.engine.data.train_stream import TrainStream, padding_fractions

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


def take(stream, num_batches, *, first_draw=0):
    """[(batch, next draw)] of the next batches."""
    batches = stream.batches(first_draw)
    return [(next(batches), batches.next_draw) for _ in range(num_batches)]


def take_all(stream):
    """The batches of a stream that ends."""
    batches = stream.batches()
    return [(batch, batches.next_draw) for batch in batches]


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
        rest = take(make_stream(pack=pack), 12 - step, first_draw=whole[step - 1][1])
        assert_same_batches(whole[step:], rest)


@pytest.mark.parametrize("settings", [{"pack": True}, {"pack": False}, {"pack": False, "length_buckets": 4}])
def test_the_batch_of_any_step_can_be_sought(settings):
    draws = [0, *(draw for _, draw in take(make_stream(**settings), 300))]
    stream = make_stream(**settings)
    for step in (250, 3, 0, 251, 77):
        assert stream.first_draw(step) == draws[step]


def test_two_iterators_of_a_stream_do_not_disturb_each_other():
    stream = make_stream()
    alone = take(make_stream(), 10)
    # One far ahead in another pass, one a step behind, as the first batch of a run and its training are.
    ahead = stream.batches(1000)
    behind = stream.batches(0)
    taken = []
    for _ in range(10):
        next(ahead)
        taken.append((next(behind), behind.next_draw))
    assert_same_batches(alone, taken)
    assert_same_batches(alone[:3], take(stream, 3))


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
    packed, unpacked = (padding(make_stream(pack=pack), 10) for pack in (True, False))
    assert packed["padding_fraction"] < 0.4 < unpacked["padding_fraction"]


def padding(stream, num_batches):
    """The padding of each side of some batches, as the stream counts it, checked against the batches themselves."""
    batches = stream.batches()
    counts = collections.Counter()
    for _ in range(num_batches):
        batch = next(batches)
        for name, feature in (("inputs", "encoder_input_tokens"), ("targets", "decoder_target_tokens")):
            assert batches.token_counts[name] == (np.count_nonzero(batch[feature]), batch[feature].size)
            counts[name, 0] += np.count_nonzero(batch[feature])
            counts[name, 1] += batch[feature].size
    return padding_fractions({name: (counts[name, 0], counts[name, 1]) for name in ("inputs", "targets")})


def test_padding_is_told_of_both_sides_apart():
    assert padding_fractions({"inputs": (30, 40), "targets": (10, 60)}) == {
        "padding_fraction": 0.6,
        "inputs_padding_fraction": 0.25,
        "targets_padding_fraction": pytest.approx(5 / 6),
    }


def test_length_buckets_cut_rows_to_few_lengths_and_save_padding():
    rng = np.random.default_rng(0)
    sizes = {"inputs": rng.integers(2, 25, 50), "targets": rng.integers(2, 21, 50)}
    uneven = TokenizedTask(
        name="uneven",
        tokens={feature: np.ones(sizes[feature].sum(), np.int32) for feature in sizes},
        offsets={feature: np.cumsum([0, *sizes[feature]]) for feature in sizes},
    )
    usual, cut = (make_stream([uneven], pack=False, length_buckets=number) for number in (1, 4))
    assert padding(cut, 64)["padding_fraction"] < padding(usual, 64)["padding_fraction"] - 0.1
    shapes = {batch["decoder_target_tokens"].shape for batch, _ in take(cut, 64)}
    assert 1 < len(shapes) <= 4
    assert max(shapes) <= (4, LENGTHS["targets"])


def test_length_buckets_leave_every_task_its_share_of_a_batch():
    for batch, _ in take(make_stream(pack=False, length_buckets=4), 64):
        assert sum(token < 200 for token in example_ids(batch)) in (1, 2, 3)


def test_length_buckets_reorder_a_block_of_draws_and_lose_none():
    def ids(**settings):
        return [
            token
            for batch, _ in take(make_stream(pack=False, **settings), 32)
            for token in example_ids(batch)
        ]

    assert sorted(ids()) == sorted(ids(length_buckets=4))
    assert ids() != ids(length_buckets=4)


def test_length_buckets_of_packed_rows_are_refused():
    with pytest.raises(ValueError, match="length_buckets=2 with pack=True"):
        make_stream(length_buckets=2)


def test_the_spec_of_a_batch_is_that_of_its_batches():
    stream = make_stream()
    (batch, _), *_ = take(stream, 1)
    assert {name: (tuple(spec.shape), spec.dtype) for name, spec in stream.batch_spec().items()} == {
        name: (rows.shape, rows.dtype) for name, rows in batch.items()
    }


def test_a_batch_names_its_examples():
    batches = make_stream().batches()
    (first,) = (next(batches) for _ in range(1))
    named = [
        f"label/{token - 100}" if token < 200 else f"rationale/{token - 200}" for token in example_ids(first)
    ]
    assert batches.example_names() == named


def test_an_unpacked_row_holds_one_example():
    for batch, draw in take(make_stream(pack=False), 1):
        assert draw == 4
        assert len(example_ids(batch)) == 4
        assert "decoder_segment_ids" not in batch
        assert (batch["decoder_target_tokens"][:, 0] >= 100).all()
        np.testing.assert_array_equal(batch["decoder_loss_weights"], batch["decoder_target_tokens"] > 0)


@pytest.mark.parametrize(("pack", "buckets", "num_batches"), [(False, 1, 3), (False, 3, 3), (True, 1, 2)])
def test_one_pass_ends_with_a_batch_filled_up_with_empty_rows(pack, buckets, num_batches):
    taken = take_all(make_stream(TASKS[1:], pack=pack, num_epochs=1, length_buckets=buckets))
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


def test_batches_that_nobody_holds_end():
    """TensorFlow's thread that makes them ahead would else outlive the interpreter, and say so at its end."""
    batches = make_stream().batches()
    next(batches)
    held = weakref.ref(batches)
    del batches
    gc.collect()
    assert held() is None
