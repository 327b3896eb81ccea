"""Tasks drawn together: the examples of one id share a batch, and every example of a pass is seen once."""

import collections

import numpy as np
import pytest
import seqio
from test_train_stream import LENGTHS, made_up_task, take

from stepdistill_jax.engine.data.draws import PairedDrawOrder
from stepdistill_jax.engine.data.tokenized_task import TokenizedTask
from stepdistill_jax.engine.data.train_stream import TrainStream

LABEL_IDS = np.array([b"a", b"b", b"c", b"d", b"e", b"f", b"g"])
RATIONALE_IDS = np.array([b"g", b"a", b"c", b"f"])  # in another order; b, d and e have none


def order(ids=(LABEL_IDS, RATIONALE_IDS), *, seed=3, shuffle=True):
    return PairedDrawOrder(["label", "rationale"], ids, seed=seed, shuffle=shuffle)


def named(draws):
    return [
        ("lr"[task], (LABEL_IDS, RATIONALE_IDS)[task][index].decode())
        for task, index in zip(*draws, strict=True)
    ]


def test_both_examples_of_an_id_are_the_two_draws_of_a_pair():
    for pass_ in range(6):
        draws = named(order().examples(pass_ * 11, (pass_ + 1) * 11))
        assert len(set(draws)) == 11  # every example once
    draws = named(order().examples(0, 66))
    for first, second in zip(draws[::2], draws[1::2], strict=True):
        if {first[1], second[1]} & {"a", "c", "f", "g"}:
            assert (first[0], second[0]) == ("l", "r")
            assert first[1] == second[1]
        else:
            assert (first[0], second[0]) == ("l", "l")


def test_draws_depend_on_seed_and_place_alone():
    whole = order().examples(0, 200)
    parts = [order().examples(start, start + 50) for start in (150, 0, 100, 50)]
    for place in (0, 1):
        np.testing.assert_array_equal(
            np.concatenate([parts[part][place] for part in (1, 3, 2, 0)]), whole[place]
        )
    assert named(order(seed=4).examples(0, 11)) != named(order().examples(0, 11))
    first, second = (set_of_pairs(named(order().examples(22 * n, 22 * n + 8))) for n in (0, 1))
    assert first != second  # another order each pass


def set_of_pairs(draws):
    return list(zip(draws[::2], draws[1::2], strict=True))


def test_without_shuffling_pairs_come_in_the_order_of_the_data():
    draws = named(order(shuffle=False).examples(0, 8))
    assert [name for _, name in draws] == ["a", "a", "c", "c", "f", "f", "g", "g"]


@pytest.mark.parametrize("ids", [[[b"a", b"a"], [b"b"]], [[b"a"], [b"a"], [b"a"]]])
def test_ids_that_do_not_pair_are_named(ids):
    with pytest.raises(
        ValueError, match="the id 'a' has more than one example in a task, or is in more than two"
    ):
        PairedDrawOrder([str(n) for n in range(len(ids))], [np.array(i) for i in ids], seed=0, shuffle=True)


def paired_stream(**settings):
    tasks = []
    for name, ids in (("label", LABEL_IDS), ("rationale", RATIONALE_IDS)):
        task = made_up_task(name, len(ids))
        tasks.append(TokenizedTask(task.name, task.tokens, task.offsets, ids=ids))
    usual = {"converter_cls": seqio.EncDecFeatureConverter, "lengths": LENGTHS, "batch_size": 4, "seed": 3}
    return TrainStream(tasks, [1.0, 1.0], **{**usual, "paired": True, **settings})


@pytest.mark.parametrize("pack", [True, False])
def test_label_and_rationale_of_an_example_share_a_batch(pack):
    stream = paired_stream(pack=pack)
    seen = collections.Counter()
    for plan, _ in zip(stream.plans(0), range(40), strict=False):
        names = stream.example_names(plan)
        seen.update(names)
        for name in names:
            task, _, example = name.partition("/")
            if example in "acfg":
                assert {"label": "rationale", "rationale": "label"}[task] + f"/{example}" in names
    passes = sum(seen.values()) / 11
    assert passes > 8
    assert all(abs(count - passes) <= 1 for count in seen.values())


@pytest.mark.parametrize("pack", [True, False])
def test_a_paired_stream_is_found_again_at_any_step(pack):
    whole = take(paired_stream(pack=pack), 12)
    stream = paired_stream(pack=pack)
    for step in (9, 4):
        draw = stream.first_draw(step)
        assert draw == whole[step - 1][1]
        (batch, _), *_ = take(stream, 1, first_draw=draw)
        for feature, values in whole[step][0].items():
            np.testing.assert_array_equal(batch[feature], values)


def test_settings_that_cannot_be_paired_are_named():
    with pytest.raises(ValueError, match=r"batch_size=3 with paired tasks.*use an even number"):
        paired_stream(batch_size=3)
    with pytest.raises(ValueError, match="paired with length_buckets=2"):
        paired_stream(pack=False, length_buckets=2)
    tasks = [made_up_task(name, 4) for name in ("label", "rationale")]
    settings = {"converter_cls": seqio.EncDecFeatureConverter, "lengths": LENGTHS, "batch_size": 4, "seed": 3}
    with pytest.raises(ValueError, match="have no `example_id` to be paired by"):
        TrainStream(tasks, [1.0, 1.0], paired=True, **settings)
