"""Recorded outputs: aligned by position, and refused with one line when they cannot be."""

import gzip
import json

import pytest

from stepdistill_jax.datasets import Example
from stepdistill_jax.teacher import Completion, RecordedTeacher, Skipped


def _example(row, source_split="train"):
    return Example(f"plums/train/{row}", "plums", "train", "text", "1", source_split, row)


def _teacher(plums, name="tutor"):
    return RecordedTeacher(plums.recorded, dataset_name="plums", name=name)


def _error(excinfo):
    message = str(excinfo.value)
    assert "\n" not in message
    return message


def test_element_i_belongs_to_row_i_across_files_in_numeric_order(plums, outputs):
    for number in range(11):
        outputs(f"train_CoT_{number}.json", [f"answer {number}"])
    answers = list(_teacher(plums).complete([_example(10), _example(2), _example(2)]))
    assert answers == [Completion("answer 10"), Completion("answer 2"), Completion("answer 2")]


def test_gzip_files_are_read_too(plums, outputs):
    plain = outputs("test_CoT_0.json", ["one", "two"])
    plain.with_name("test_CoT_0.json.gz").write_bytes(gzip.compress(plain.read_bytes()))
    plain.unlink()
    assert list(_teacher(plums).complete([_example(1, "test")])) == [Completion("two")]


def test_row_of_unknown_number_and_split_without_files_are_skipped_with_a_reason(plums, outputs):
    path = outputs("valid_CoT_0.json", [])
    path.unlink()
    answers = list(_teacher(plums).complete([_example(-1), _example(0, "validation")]))
    assert answers == [Skipped("no recorded output"), Skipped("no valid_CoT files")]


def test_error_names_the_missing_teacher_and_those_that_are_there(plums, outputs):
    with pytest.raises(FileNotFoundError) as excinfo:
        _teacher(plums, "palm")
    assert "teacher/palm" in _error(excinfo)
    assert "There are: tutor." in _error(excinfo)


def test_error_names_the_missing_number(plums, outputs):
    outputs("train_CoT_3.json", ["x"])
    with pytest.raises(FileNotFoundError) as excinfo:
        _teacher(plums)
    assert "train_CoT_2.json is missing" in _error(excinfo)


def test_two_files_of_one_number_are_refused(plums, outputs):
    outputs("test_CoT_0.json.gz", [])
    with pytest.raises(ValueError, match=r"both test_CoT_0.json and test_CoT_0.json.gz"):
        _teacher(plums)


def test_too_few_outputs_are_refused(plums, outputs):
    with pytest.raises(ValueError, match="4 outputs, but row 4") as excinfo:
        list(_teacher(plums).complete([_example(4)]))
    assert "\n" not in str(excinfo.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'["a", "b', "not a readable JSON array"),
        (b"\xff\xfe", "not a readable JSON array"),
        (b"[" * 100_000, "not a readable JSON array"),
        (json.dumps({"a": "b"}).encode(), "JSON dict"),
        (json.dumps(["a", None]).encode(), "element 1 is NoneType"),
    ],
)
def test_malformed_file_is_named(plums, outputs, content, words):
    path = outputs("train_CoT_0.json", [])
    path.write_bytes(content)
    with pytest.raises(ValueError, match=words) as excinfo:
        list(_teacher(plums).complete([_example(0)]))
    assert "train_CoT_0.json" in _error(excinfo)


def test_cut_gzip_file_is_named(plums, outputs):
    path = outputs("train_CoT_0.json", [])
    path.with_name("train_CoT_0.json.gz").write_bytes(gzip.compress(b'["a"]' * 50)[:20])
    path.unlink()
    with pytest.raises(ValueError, match=r"train_CoT_0.json.gz: not a readable"):
        list(_teacher(plums).complete([_example(0)]))
