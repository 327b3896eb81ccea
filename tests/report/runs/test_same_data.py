"""Runs of one report are of the same data, or it says that they are not."""

import json

import pytest

from stepdistill_jax.datasets.lineage.mixed_data import MixedData
from stepdistill_jax.report.runs.same_data import check_same_data, data_of, data_of_teacher

PART = "svamp/examples/test"


@pytest.fixture
def make_run(tmp_path):
    """make_run(name, train=…, test=…): a folder that says of which data it is, by the first letter of their identities."""

    def make(name, *, train="a", test="a", evaluated=None, mixed_data=()):
        folder = tmp_path / name
        (folder / "test_eval" / "predictions").mkdir(parents=True)
        content = {"svamp/examples/train": {"sha256": train * 64}, PART: {"sha256": test * 64}}
        starts = [{"mixed_data": list(mixed_data)}]
        (folder / "run.json").write_text(json.dumps({"content": content, "starts": starts}))
        said = {"svamp_label-test": {PART: (evaluated or test) * 12}}
        (folder / "test_eval" / "predictions" / "data.json").write_text(json.dumps(said))
        return folder

    return make


def of(*folders, targets=({}, {})):
    return [data_of(f.name, f, t) for f, t in zip(folders, targets, strict=False)]


def test_runs_of_the_same_data_are_compared(make_run):
    assert check_same_data(of(make_run("one"), make_run("two"))) == []


@pytest.mark.parametrize("part", ["train", "test"])
def test_runs_of_other_data_are_not(make_run, part):
    runs = of(make_run("one"), make_run("two", **{part: "b"}))
    with pytest.raises(
        MixedData, match=rf"svamp/examples/{part} was not the same for all: a{{12}} say one/run.json"
    ):
        check_same_data(runs)


def test_an_evaluation_on_an_older_test_split_is_named(make_run):
    with pytest.raises(MixedData, match=r"b{12} say one/test_eval/predictions/data.json"):
        check_same_data(of(make_run("one", evaluated="b")))


def test_runs_that_say_nothing_are_compared_by_their_labels(tmp_path):
    targets = {"svamp/test/0": "1 + 1"}, {"svamp/test/0": "2 + 1", "svamp/test/1": "3"}
    runs = of(tmp_path / "one", tmp_path / "two", targets=targets)
    with pytest.raises(
        MixedData, match=r"one and two were judged by different labels on 1 of 1 test questions"
    ):
        check_same_data(runs)


def test_what_is_allowed_stands_in_the_head(make_run, monkeypatch):
    monkeypatch.setenv("STEPDISTILL_MIXED_DATA", "allow")
    lines = check_same_data(of(make_run("one", mixed_data=["x is not y."]), make_run("two", test="b")))
    assert lines[0].startswith("svamp/examples/test was not the same for all")
    assert lines[1] == "one was trained on data that do not belong together: x is not y."


def test_a_teacher_listed_beside_has_answered_the_same_questions(make_run, tmp_path):
    folder = tmp_path / "rationales" / "tutor"
    folder.mkdir(parents=True)
    identity = {"test": {"sha256": "b" * 64, "order": "0", "count": 2}}
    manifest = {"dataset": "svamp", "teacher": "tutor", "identity": identity, "of_examples": identity}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    runs = [*of(make_run("one")), data_of_teacher(folder)]
    with pytest.raises(MixedData, match=r"svamp/examples/test .* b{12} say tutor/manifest.json"):
        check_same_data(runs)
