"""student.json says what a student is, and what is wrong with it."""

import json
import shutil

import pytest
from made_up_students import description_of

from stepdistill_jax.datasets.wordproblems import VOCABULARY_PATH
from stepdistill_jax.prediction import description, portable
from stepdistill_jax.prediction.vocabularies import SentencePieceModel


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "vocabulary").mkdir()
    shutil.copy(VOCABULARY_PATH, tmp_path / "vocabulary")
    description.write_description(tmp_path, description_of(label_words={"no": "nö"}))
    return tmp_path


def test_it_is_read_back(folder):
    assert description.read_description(folder) == description_of(
        label_words={"no": "nö"},
        network=json.loads((folder / "student.json").read_text())["network"],
    )


def test_a_folder_without_one_is_named(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"has no student\.json: it is neither a run's folder nor an export"
    ):
        description.read_description(tmp_path)


def test_a_file_in_the_place_of_a_folder_is_named(folder):
    with pytest.raises(FileNotFoundError, match=r"student\.json is a file; name the folder of a run"):
        description.read_description(folder / "student.json")


@pytest.mark.parametrize(
    "damage", ["{", "[]", '{"format": 1}', '{"format": 1, "vocabulary": {}, "choices": []}']
)
def test_damage_is_named(folder, damage):
    (folder / "student.json").write_text(damage)
    with pytest.raises(ValueError, match=r"student\.json is damaged .*; copy the folder again"):
        description.read_description(folder)


@pytest.mark.parametrize(
    "change",
    [
        {"choices": "abc"},
        {"choices": [1, 2]},
        {"feature_lengths": {"targets": 12}},
        {"feature_lengths": {"inputs": 0, "targets": 12}},
        {"feature_lengths": {"inputs": "40", "targets": 12}},
        {"feature_lengths": None},
        {"label_words": []},
        {"label_prefix": None},
        {"network": None},
        {"line_break": 3},
    ],
)
def test_a_value_of_another_kind_is_damage(folder, change):
    said = json.loads((folder / "student.json").read_text())
    (folder / "student.json").write_text(json.dumps(said | change))
    with pytest.raises(ValueError, match=r"student\.json is damaged .*; copy the folder again"):
        description.read_description(folder)


def test_a_later_format_is_told_apart_from_damage(folder):
    said = json.loads((folder / "student.json").read_text())
    (folder / "student.json").write_text(json.dumps({**said, "format": 2, "more": 1}))
    with pytest.raises(ValueError, match="has format 2, this version reads 1"):
        description.read_description(folder)


def test_another_vocabulary_under_its_name_is_refused(folder):
    file = folder / "vocabulary" / "vocabulary.model"
    file.write_bytes(file.read_bytes() + b" ")
    with pytest.raises(ValueError, match=r"is not the file that student\.json names"):
        description.read_description(folder)
    file.unlink()
    with pytest.raises(ValueError, match=r"is missing, though student\.json names it"):
        description.read_description(folder)


def test_choices_that_are_the_same_tokens_are_refused():
    words = SentencePieceModel(VOCABULARY_PATH, 0)
    with pytest.raises(ValueError, match="choices '猫' and '犬' are the same token ids"):
        portable.choice_tokens(description_of(choices=("猫", "犬")), words)
    tokens = portable.choice_tokens(description_of(choices=("猫", "犬"), label_words={"犬": "dog"}), words)
    assert tokens[1] == [*words.encode("dog"), words.eos_id]
