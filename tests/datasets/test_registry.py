"""Datasets are found by name, near misses are named, and answers are compared as each dataset says."""

import subprocess
import sys

import pytest

from stepdistill_jax import datasets


def to_example(row):
    return datasets.Fields(row["q"], row["a"])


def test_error_names_the_nearest_dataset(register_dataset):
    register_dataset(name="riddles")
    assert "riddles" in datasets.names()
    with pytest.raises(ValueError, match="No dataset 'ridles'; nearest 'riddles'"):
        datasets.get("ridles")


def test_error_says_where_datasets_of_tables_were_looked_for(tmp_path):
    with pytest.raises(
        ValueError, match=rf"looked for in {tmp_path} \(--data_dir, or STEPDISTILL_DATA_DIR\)"
    ):
        datasets.get("ridles", tmp_path)


def test_the_same_name_twice_is_refused(register_dataset):
    register_dataset(name="riddles")
    with pytest.raises(ValueError, match="'riddles' is registered already"):
        register_dataset(name="riddles")


def test_text_labels_match_exactly_but_for_outer_space(register_dataset):
    riddles = register_dataset()
    assert datasets.labels_match(riddles, " a shadow\n", "a shadow")
    assert not datasets.labels_match(riddles, "A shadow", "a shadow")
    assert not datasets.labels_match(riddles, None, "a shadow")


def test_equation_labels_match_by_value(register_dataset):
    sums = register_dataset(name="sums", metric="equation")
    assert datasets.labels_match(sums, "3 + 4", "( 14.0 / 2.0 )")
    for wrong in ("(1, 2)", "__import__('os')", "2**99**99", "[" * 10_000_000, "", "seven"):
        assert not datasets.labels_match(sums, wrong, "( 14.0 / 2.0 )")
    assert datasets.labels_match(sums, "6:7", "6:7")


def test_an_empty_answer_is_never_right(register_dataset):
    assert not datasets.labels_match(register_dataset(), "", "")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"name": "My Data"}, "use lower-case letters, digits and _"),
        ({"files": {"all": "rows.csv"}}, "the split 'all' needs cut_all=…"),
        ({"choices": ("a",)}, "give two labels or more, each once"),
        ({"metric": "f1"}, "metric='f1'; use 'text' or 'equation'"),
        ({"files": {}}, "give files="),
    ],
)
def test_a_wrong_setting_is_refused_when_the_dataset_is_made(wrong, message):
    right = {"name": "riddles", "to_example": to_example, "files": {"train": ["train.jsonl"]}}
    with pytest.raises(ValueError, match=message):
        datasets.Dataset(**{**right, **wrong})


def test_a_split_that_does_not_exist_is_refused_when_the_dataset_is_made():
    with pytest.raises(ValueError, match="dev"):
        datasets.Dataset(name="riddles", to_example=to_example, files={"dev": ["dev.jsonl"]})


def test_data_dir_prefers_what_is_given_then_the_environment(monkeypatch, tmp_path):
    import seqio  # noqa: F401 (data_dir asks it once it is loaded)

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
