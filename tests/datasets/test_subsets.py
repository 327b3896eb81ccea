"""Shares of the train split: nested, seeded, of an exact size, and the same for every task."""

import hashlib
import itertools

import gin
import pytest
import seqio

from stepdistill_jax import datasets
from stepdistill_jax.datasets import choices, subsets
from stepdistill_jax.engine.data.content_key import content_key

IDS = [f"riddles/train/{n}" for n in range(100)]
LENGTHS = {"inputs": 96, "targets": 96}


@pytest.fixture
def problems(tmp_path, monkeypatch, register_dataset):
    """60 embedded word problems for training and 10 of each other split, with worked solutions."""
    from stepdistill_jax import teacher
    from tasks import wordproblems as task_file

    monkeypatch.setenv("STEPDISTILL_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("STEPDISTILL_CACHE_DIR", "no")
    register_dataset(
        name="few_problems",
        rows=lambda split: task_file.rows(split)[: 60 if split == "train" else 10],
        to_example=task_file.to_example,
        metric="equation",
        default_teacher="worked",
    )
    datasets.prepare("few_problems")
    teacher.teach("few_problems", teacher="worked", data_dir=tmp_path)
    yield
    gin.clear_config()


def choose(**chosen):
    gin.clear_config()
    for name, value in chosen.items():
        gin.bind_parameter(f"datasets.task_choices.{name}", value)


def ids_of(task, split="train"):
    dataset = seqio.get_mixture_or_task(task).get_dataset(None, split=split, shuffle=False)
    return [example["example_id"].decode() for example in dataset.as_numpy_iterator()]


def test_order_is_that_of_a_hash_worked_out_by_hand():
    def number(name):
        return hashlib.blake2b(f"7\n{name}".encode(), digest_size=8).hexdigest()

    assert subsets.ranked(IDS, 7) == sorted(IDS, key=number)
    assert subsets.ranked(reversed(IDS), 7) == subsets.ranked(IDS, 7) != subsets.ranked(IDS, 8)
    assert subsets.ranked(IDS, 0)[:4] == [f"riddles/train/{n}" for n in (10, 29, 19, 0)]  # on any machine


def test_subsets_of_one_seed_are_nested_and_of_the_exact_size(problems):
    taken = {}
    for share in (0.001, 0.125, 0.25, 0.5, 1.0):
        choose(train_share=share)
        taken[share] = ids_of("few_problems_label")
    assert [len(ids) for ids in taken.values()] == [1, 8, 15, 30, 60]
    by_size = [set(ids) for ids in taken.values()]
    assert all(small < large for small, large in itertools.pairwise(by_size))
    choose(train_share=0.25, subset_seed=1)
    assert set(ids_of("few_problems_label")) != by_size[2]


def test_every_task_reads_the_same_examples_and_evaluation_is_never_cut(problems):
    choose(train_share=0.25, subset_seed=3)
    expected = sorted(ids_of("few_problems_label"))
    for task in ("teacher_label", "rationale", "rationale_then_label", "rationale_as_input"):
        assert sorted(ids_of(f"few_problems_{task}")) == expected
    for split in ("validation", "test"):
        assert len(ids_of("few_problems_label", split)) == 10


def test_kept_token_ids_of_one_share_are_not_taken_for_another(problems):
    task = seqio.get_mixture_or_task("few_problems_rationale")

    def keys(split):
        found = set()
        for chosen in (
            {},
            {"train_share": 0.5},
            {"train_share": 0.5, "subset_seed": 1},
            {"train_share": 0.25},
        ):
            choose(**chosen)
            found.add(content_key(task, split=split, lengths=LENGTHS, use_cached=False))
        return found

    assert len(keys("train")) == 4
    assert len(keys("test")) == 1


def test_a_run_records_its_share(problems):
    choose(train_share=0.25, subset_seed=3)
    source = seqio.get_mixture_or_task("few_problems_label").source
    assert source.facts("train") == {
        "records": "few_problems/examples",
        "prefixes": "paper",
        "train_share": "0.25",
        "subset_seed": "3",
    }
    assert source.facts("test") == {"records": "few_problems/examples", "prefixes": "paper"}


@pytest.mark.parametrize("share", [0, -0.5, 1.5])
def test_an_impossible_share_is_named(share):
    with pytest.raises(ValueError, match=rf"train_share={share}; use a share above 0 and at most 1"):
        choices.task_choices(train_share=share)
