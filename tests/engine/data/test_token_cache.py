"""Tokenised splits: read in order, kept on disk, and made again when anything that they depend on changes."""

import dataclasses
import functools
import json
import threading

import numpy as np
import pytest
import seqio
import tensorflow as tf

from stepdistill_jax.base import locations
from stepdistill_jax.engine.data import token_cache
from stepdistill_jax.engine.data.content_key import content_key
from stepdistill_jax.engine.data.tokenized_task import TooManyExamples, fit_of_first

LENGTHS = {"inputs": 6, "targets": 6}
ROWS = [([9] * 3, [4, 1]), ([9] * 8, [5, 1]), ([9] * 5, [])]


@dataclasses.dataclass
class Records:
    """What a made-up source holds, and how often it was read."""

    version: int = 1
    num_reads: int = 0


@pytest.fixture
def records():
    return Records()


class VersionedSource(seqio.FunctionDataSource):
    """Rows that say what they are by a version."""

    def __init__(self, records):
        def rows(split, shuffle_files=False, seed=None):
            def read():
                records.num_reads += 1
                for number, (inputs, targets) in enumerate(ROWS if split == "train" else []):
                    yield {"inputs": inputs, "targets": targets, "example_id": f"row {number}"}

            spec = {name: tf.TensorSpec([None], tf.int32) for name in ("inputs", "targets")}
            return tf.data.Dataset.from_generator(
                read, output_signature={**spec, "example_id": tf.TensorSpec([], tf.string)}
            )

        super().__init__(rows, splits=("train", "empty"))
        self._records = records

    def content_id(self, split):
        return f"version {self._records.version}"


def add_to_inputs(dataset, number):
    return dataset.map(lambda example: {**example, "inputs": example["inputs"] + number})


def make_task(source, *preprocessors, eos_id=1):
    vocabulary = seqio.PassThroughVocabulary(40, eos_id=eos_id)
    return seqio.Task(
        "made_up",
        source=source,
        preprocessors=list(preprocessors),
        output_features={name: seqio.Feature(vocabulary, add_eos=False) for name in LENGTHS},
    )


@pytest.fixture
def task(records):
    return make_task(VersionedSource(records))


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("STEPDISTILL_CACHE_DIR", str(folder))
    return folder


def tokenized(task, lengths=LENGTHS, split="train", **settings):
    return token_cache.tokenized(task, split=split, lengths=lengths, **settings)


def assert_same_tokens(first, second):
    for name in first.tokens:
        np.testing.assert_array_equal(first.tokens[name], second.tokens[name])
        np.testing.assert_array_equal(first.offsets[name], second.offsets[name])
    np.testing.assert_array_equal(first.ids, second.ids)


@pytest.mark.parametrize("cached", [True, False])
def test_a_task_is_tokenised_in_order_and_trimmed(task, cached, monkeypatch):
    if not cached:
        monkeypatch.setenv("STEPDISTILL_CACHE_DIR", "no")
    made = tokenized(task)
    assert made.num_examples == 3
    assert made.lengths("inputs").tolist() == [3, 6, 5]
    assert made.feature("inputs", 2).tolist() == [9] * 5
    assert made.feature("targets", 2).tolist() == []
    assert made.tokens["inputs"].dtype == np.int32
    assert made.example_id(1) == "row 1"


def test_a_second_start_reads_no_record(task, records, cache):
    first = tokenized(task)
    assert records.num_reads == 1
    assert isinstance(first.tokens["inputs"], np.memmap)
    assert_same_tokens(first, tokenized(task))
    assert records.num_reads == 1
    assert [path.name.startswith("made_up-train-") for path in cache.iterdir()] == [True]


def test_without_a_cache_every_start_reads_the_records(task, records, cache, monkeypatch):
    monkeypatch.setenv("STEPDISTILL_CACHE_DIR", "no")
    tokenized(task)
    tokenized(task)
    assert records.num_reads == 2
    assert not cache.exists()


def test_the_cache_lies_with_the_data_unless_it_is_named(monkeypatch, tmp_path):
    monkeypatch.delenv("STEPDISTILL_CACHE_DIR")
    monkeypatch.setenv("STEPDISTILL_DATA_DIR", str(tmp_path))
    assert locations.cache_dir() == tmp_path / "token_cache"


def test_whatever_changes_the_ids_changes_the_key(task, records):
    def key(task=task, lengths=LENGTHS, split="train"):
        return content_key(task, split=split, lengths=lengths, use_cached=False)

    bound = [functools.partial(add_to_inputs, number=number) for number in (1, 2)]
    source = task.source
    keys = [
        key(),
        key(lengths={"inputs": 5, "targets": 6}),
        key(split="empty"),
        key(make_task(source, eos_id=2)),
        key(make_task(source, bound[0])),
        key(make_task(source, bound[1])),
        key(make_task(source, bound[0], bound[1])),
        key(make_task(source, lambda dataset: dataset)),
        key(make_task(source, lambda dataset: dataset.take(2))),
        key(make_task(source, lambda dataset: dataset.take(3))),
    ]
    records.version = 2
    keys.append(key())
    assert None not in keys
    assert len(set(keys)) == len(keys)
    assert key() == key(make_task(VersionedSource(Records(version=2))))


def test_a_called_function_of_the_same_package_is_part_of_the_key(task, monkeypatch):
    def by_way_of(dataset):
        return add_to_inputs(dataset, 1)

    calling = make_task(task.source, by_way_of)
    before = content_key(calling, split="train", lengths=LENGTHS, use_cached=False)
    monkeypatch.setitem(globals(), "add_to_inputs", lambda dataset, number: dataset)
    assert content_key(calling, split="train", lengths=LENGTHS, use_cached=False) not in (before, None)


def test_a_source_that_cannot_be_told_is_read_every_time(records, cache):
    known = VersionedSource(records)
    unknown = make_task(seqio.FunctionDataSource(known._dataset_fn, splits=("train",)))
    assert content_key(unknown, split="train", lengths=LENGTHS, use_cached=False) is None
    tokenized(unknown)
    tokenized(unknown)
    assert records.num_reads == 2
    assert not cache.exists()


def test_text_files_are_told_by_size_and_time(tmp_path):
    path = tmp_path / "rows.txt"
    path.write_text("one\ntwo\n")
    source = seqio.TextLineDataSource({"train": str(path)})
    task = make_task(source)
    before = content_key(task, split="train", lengths=LENGTHS, use_cached=False)
    path.write_text("one\ntwo\nthree\n")
    assert content_key(task, split="train", lengths=LENGTHS, use_cached=False) not in (before, None)


@pytest.mark.parametrize("damage", ["cut", "no meta", "lost"])
def test_a_damaged_entry_is_made_again(task, records, cache, damage):
    whole = tokenized(task)
    expected = np.array(whole.tokens["inputs"])
    (entry,) = cache.iterdir()
    if damage == "cut":
        (entry / "inputs.tokens").write_bytes((entry / "inputs.tokens").read_bytes()[:-4])
        (entry / "meta.json").unlink()
    elif damage == "no meta":
        (entry / "meta.json").write_text("{")
    else:
        (entry / "targets.lengths").unlink()
    np.testing.assert_array_equal(tokenized(task).tokens["inputs"], expected)
    assert records.num_reads == 2


def test_an_entry_that_was_cut_short_is_seen(task, records, cache):
    tokenized(task)
    (entry,) = cache.iterdir()
    (entry / "inputs.tokens").write_bytes((entry / "inputs.tokens").read_bytes()[:-4])
    tokenized(task)
    assert records.num_reads == 2
    assert json.loads((entry / "meta.json").read_text())["num_examples"] == 3


def test_two_at_once_make_one_entry(task, cache):
    made = []
    threads = [threading.Thread(target=lambda: made.append(tokenized(task))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert len(made) == 4
    for other in made[1:]:
        assert_same_tokens(made[0], other)
    assert len(list(cache.iterdir())) == 1


def test_a_cache_that_cannot_be_written_is_said_and_done_without(task, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").touch()
    monkeypatch.setenv("STEPDISTILL_CACHE_DIR", str(tmp_path / "file" / "cache"))
    assert tokenized(task).num_examples == 3
    assert "Token ids are not kept" in capsys.readouterr().err


@pytest.mark.parametrize("cached_before", [True, False])
def test_more_examples_than_the_limit_are_refused(task, cached_before):
    if cached_before:
        tokenized(task)
    with pytest.raises(TooManyExamples, match="made_up/train has"):
        tokenized(task, max_examples=2)
    assert tokenized(task, max_examples=3).num_examples == 3


def test_a_split_without_examples_is_named(task, cache):
    with pytest.raises(ValueError, match="made_up/empty: no examples; prepare the dataset again"):
        tokenized(task, split="empty")
    assert list(cache.iterdir()) == []


def test_an_entry_keeps_what_did_not_fit_and_one_without_is_made_again(tmp_path, cache):
    words = seqio.ByteVocabulary()
    texts = ["short", "much too long", "much too long"]
    task = seqio.Task(
        "texts",
        source=seqio.FunctionDataSource(
            lambda split, shuffle_files=False, seed=None: tf.data.Dataset.from_tensor_slices(
                {"inputs": texts, "targets": texts, "learnt_label": texts}
            ),
            splits=("train",),
        ),
        preprocessors=[
            functools.partial(seqio.preprocessors.tokenize, copy_pretokenized=True),
            seqio.preprocessors.append_eos_after_trim,
        ],
        output_features={name: seqio.Feature(words, add_eos=True) for name in LENGTHS},
    )
    task.source.content_id = lambda split: "1"
    first = tokenized(task, {"inputs": 16, "targets": 6})
    targets = first.fit.features["targets"]
    assert (targets.num_examples, targets.num_cut, targets.num_cut_tokens, targets.longest) == (3, 2, 16, 14)
    assert (first.fit.features["inputs"].num_cut, first.fit.labels.num_cut) == (0, 2)
    assert tokenized(task, {"inputs": 16, "targets": 6}).fit == first.fit
    (meta,) = cache.glob("*/meta.json")
    kept = json.loads(meta.read_text())
    del kept["fit"]
    meta.write_text(json.dumps(kept))
    assert tokenized(task, {"inputs": 16, "targets": 6}).fit == first.fit
    assert "fit" in json.loads(meta.read_text())


def test_of_a_split_too_large_to_tokenise_the_first_are_counted(task):
    fit, num_examples = fit_of_first(task, split="train", lengths=LENGTHS)
    assert (num_examples, fit.labels) == (3, None)
