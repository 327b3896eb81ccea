"""`stepdistill teach show`: records, readably."""

import argparse

import pytest

from stepdistill_jax.teacher import show, teach


@pytest.fixture
def folder(plums, outputs):
    teach("plums", teacher="recorded", from_folder=plums.recorded, data_dir=plums.data_dir)
    return plums.rationales / "tutor"


@pytest.fixture
def run(capsys):
    def printed(*argv):
        parser = argparse.ArgumentParser()
        show.add_flags(parser)
        show.run(parser.parse_args([str(arg) for arg in argv]))
        return capsys.readouterr().out

    return printed


def test_record_shows_question_labels_and_rationale(folder, run):
    text = run(folder, "--split", "train", "-n", 1)
    for part in (
        "plums/train/0  by tutor",
        "question    Mia has 10 plums",
        "gold label  10 + 2",
        "label       (10 + 2)  (right)",
        "rationale   Ten and two.",
        "1 record shown; there are more",
    ):
        assert part in text


def test_unparsed_ones_show_reason_and_raw_output(folder, run):
    text = run(folder, "--unparsed")
    assert "2 records shown\n" in text
    assert "unparsed    no answer marker\n  raw output  No idea." in text


def test_wrong_ones_have_a_gold_label_and_another(folder, run):
    text = run(folder, "--wrong", "--split", "train")
    assert "plums/train/3" in text
    assert "plums/train/2 " not in text  # has no gold label
    assert "(right)" not in text


def test_one_shard_is_read_alone(folder, run):
    [shard] = folder.glob("test-*.tfrecord")
    text = run(shard, "--number", 0)
    assert "2 records shown" in text
    assert "plums/train" not in text


def test_what_cannot_be_shown_is_named(folder, run, tmp_path):
    for path, flags, error, words in (
        (tmp_path / "nothing", (), FileNotFoundError, "No "),
        (tmp_path, (), FileNotFoundError, "no manifest.json"),
        (folder.parents[1] / "examples", (), ValueError, "no teacher's records"),
        (folder, ("--split", "dev"), ValueError, "no split 'dev'"),
        (folder / "features.json", (), ValueError, "no shard of its folder"),
        (folder, ("-n", "-1"), ValueError, "--number=-1"),
    ):
        with pytest.raises(error, match=words):
            run(path, *flags)


def test_damaged_shard_is_named(folder, run):
    [shard] = folder.glob("train-*.tfrecord")
    shard.write_bytes(shard.read_bytes()[:-7])
    with pytest.raises(ValueError, match=shard.name):
        run(folder)


def test_control_characters_are_shown_and_not_obeyed(plums, outputs, run):
    outputs("train_CoT_0.json", ["\x1b[2JTen.\x07 The answer is (10 + 2).", "\x1b]0;mine\x07"])
    teach("plums", teacher="recorded", from_folder=plums.recorded, data_dir=plums.data_dir)
    text = run(plums.rationales / "tutor", "--split", "train")
    assert r"\x1b[2JTen.\x07" in text
    assert r"raw output  \x1b]0;mine\x07" in text
    assert not set("\x1b\x07") & set(text)
