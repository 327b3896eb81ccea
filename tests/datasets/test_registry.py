"""Datasets are found by name, near misses are named, and answers are compared as each dataset says."""

import subprocess
import sys

import pytest

from stepdistill_jax import datasets
from stepdistill_jax.datasets import registry


@pytest.fixture
def known(monkeypatch):
    """A registry of two made-up datasets."""
    monkeypatch.setattr(registry, "_DATASETS", {})
    for name, metric in (("riddles", "text"), ("sums", "equation")):
        datasets.register(
            datasets.Dataset(name=name, to_example=to_example, files={"train": "train.jsonl"}, metric=metric)
        )


def to_example(row):
    return datasets.Fields(row["q"], row["a"])


def test_error_names_the_nearest_dataset(known):
    assert datasets.names() == ("riddles", "sums")
    with pytest.raises(ValueError, match="No dataset 'ridles'; nearest 'riddles'"):
        datasets.get("ridles")


def test_an_empty_registry_says_what_to_import(monkeypatch):
    monkeypatch.setattr(registry, "_DATASETS", {})
    with pytest.raises(ValueError, match="none is registered: import tasks first"):
        datasets.get("svamp")


def test_text_labels_match_exactly_but_for_outer_space(known):
    assert datasets.labels_match("riddles", " a shadow\n", "a shadow")
    assert not datasets.labels_match("riddles", "A shadow", "a shadow")
    assert not datasets.labels_match("riddles", "", "")
    assert not datasets.labels_match("riddles", None, "a shadow")


def test_equation_labels_match_by_value(known):
    assert datasets.labels_match("sums", "3 + 4", "( 14.0 / 2.0 )")
    assert not datasets.labels_match("sums", "(1, 2)", "( 1.0 + 2.0 )")
    assert not datasets.labels_match("sums", "__import__('os')", "3")
    assert datasets.labels_match("sums", "6:7", "6:7")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"name": "My Data"}, "must be a-z"),
        ({"metric": "f1"}, "metric 'f1'"),
        ({"files": {"dev": "dev.jsonl"}}, r"splits \['dev'\]"),
        ({"files": {}}, "give files="),
        ({"vocabulary": "bert"}, "vocabulary 'bert'"),
    ],
)
def test_a_wrong_setting_is_refused_when_the_dataset_is_made(wrong, message):
    right = {"name": "riddles", "to_example": to_example, "files": {"train": "train.jsonl"}}
    with pytest.raises(ValueError, match=message):
        datasets.Dataset(**{**right, **wrong})


def test_data_dir_prefers_what_is_given_then_the_environment(monkeypatch, tmp_path):
    monkeypatch.delenv("STEPDISTILL_DATA_DIR", raising=False)
    assert str(datasets.data_dir()) == "data"
    monkeypatch.setenv("STEPDISTILL_DATA_DIR", str(tmp_path / "env"))
    assert datasets.data_dir() == tmp_path / "env"
    assert datasets.data_dir(tmp_path / "given") == tmp_path / "given"


def test_data_dir_follows_t5x_tfds_data_dir_flag(monkeypatch, tmp_path):
    import seqio

    monkeypatch.delenv("STEPDISTILL_DATA_DIR", raising=False)
    seqio.set_tfds_data_dir_override(str(tmp_path))
    try:
        assert datasets.data_dir() == tmp_path
    finally:
        seqio.set_tfds_data_dir_override(None)


def test_importing_datasets_loads_neither_tensorflow_nor_seqio():
    script = (
        "import sys, stepdistill_jax.datasets as d; d.labels_match, d.get; "
        "sys.exit(str([m for m in ('tensorflow', 'seqio', 'numpy', 'jax') if m in sys.modules] or ''))"
    )
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stderr.strip() == ""
