"""dataset.json: what it says is read back, and what it should not say is named."""

import dataclasses
import json

import pytest

from stepdistill_jax import datasets
from stepdistill_jax.datasets import described


@pytest.fixture
def colours():
    return datasets.Dataset(
        "colours",
        described.from_table,
        files={"train": "its table", "test": "its table"},
        choices=("red", "blue"),
        inputs="{text}",
        instruction="Which colour?",
        label_words={"red": "rot"},
        completion=datasets.CompletionFormat("Answer:", "\nQ:", "(.*)"),
        default_teacher="",
        licence="CC0",
    )


def test_a_description_is_read_back(colours, tmp_path):
    path = tmp_path / "colours" / "dataset.json"
    described.write_description(path, colours, {"note": "x"})
    assert described.read_description(path) == colours
    assert described.read(path)["note"] == "x"
    assert described.find("colours", tmp_path) == colours


def test_renamed_choices_are_refused_and_further_ones_are_not(colours, tmp_path):
    path = tmp_path / "colours" / "dataset.json"
    splits = {"train": {"labels": {"red": 3, "blue": 2}}, "test": {"labels": {"mauve": 1}}}
    described.write_description(path, colours, {"splits": splits})
    assert described.find("colours", tmp_path).choices == ("red", "blue")
    said = described.read(path)
    for choices, fits in ((["blue", "red", "green"], True), (["red", "green"], False)):
        path.write_text(json.dumps({**said, "choices": choices}))
        if fits:
            assert described.find("colours", tmp_path).choices == tuple(choices)
        else:
            with pytest.raises(ValueError, match="'choices' lacks 'blue', a label of the training examples"):
                described.find("colours", tmp_path)


def test_a_registered_dataset_is_described_by_what_is_data_of_it(colours, tmp_path):
    registered = dataclasses.replace(colours, to_example=dict, files={"train": ["a.jsonl"]})
    path = tmp_path / "dataset.json"
    described.write_description(path, registered, {})
    assert described.read_description(path) == dataclasses.replace(colours, files={"train": "its table"})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": 2}, "no description of format 1"),
        ({"name": 7}, "'name' is to be a text, not 7"),
        ({"name": "Colours"}, "use lower-case letters"),
        ({"metric": "bleu"}, "use 'text' or 'equation'"),
        ({"choices": ["red", None]}, "'choices' is to be null or a list of texts"),
        ({"choices": ["red", "red"]}, "give two labels or more, each once"),
        ({"splits": {}}, "'splits' is to name some of train"),
        ({"splits": {"dev": {}}}, "'splits' is to name some of train"),
        ({"completion": {"marker": "x"}}, "unexpected keyword argument 'marker'"),
    ],
)
def test_what_is_wrong_is_named_with_the_file(colours, tmp_path, change, said):
    path = tmp_path / "dataset.json"
    path.write_text(json.dumps({**described.as_data(colours), **change}), encoding="utf-8")
    with pytest.raises(ValueError, match=said) as caught:
        described.read_description(path)
    assert str(path) in str(caught.value)


def test_no_json_no_file_and_another_folder_s_name_are_named(colours, tmp_path):
    path = tmp_path / "shades" / "dataset.json"
    with pytest.raises(FileNotFoundError, match="no such description"):
        described.read_description(path)
    described.write_description(path, colours, {})
    with pytest.raises(ValueError, match="describes 'colours'; the folder's name is to be the dataset's"):
        described.find("shades", tmp_path)
    path.write_text("{", encoding="utf-8")
    with pytest.raises(ValueError, match=r"dataset.json: not JSON"):
        described.read_description(path)


def test_a_description_of_other_examples_says_how_to_mend_it(colours, tmp_path):
    path = tmp_path / "colours" / "dataset.json"
    described.write_description(
        path, colours, {"examples_sha256": "a", "command": "stepdistill prepare c.csv"}
    )
    (path.parent / "examples").mkdir()
    (path.parent / "examples" / "manifest.json").write_text('{"examples_sha256": "b"}', encoding="utf-8")
    with pytest.raises(
        ValueError, match=r"other examples than those beside it; run: stepdistill prepare c.csv"
    ):
        described.find("colours", tmp_path)
