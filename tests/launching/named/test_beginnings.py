"""What a run begins with: a pretrained student asks for a checkpoint, and what is none is named with the mend."""

import pytest

from stepdistill_jax.launching.named import beginnings, students

SMALL, TINY = students.find("t5_1_1_small"), students.find("byt5_tiny")


def test_a_small_student_of_ours_begins_from_scratch_and_a_published_one_asks():
    assert beginnings.checkpoint_of(None, TINY) is None
    assert beginnings.checkpoint_of("scratch", SMALL) is None
    with pytest.raises(ValueError, match="t5_1_1_small is a pretrained student: give --from CHECKPOINT"):
        beginnings.checkpoint_of(None, SMALL)


def test_of_a_folder_of_checkpoints_the_newest_is_taken(tmp_path):
    for step in (5, 1_000_000):
        (tmp_path / f"checkpoint_{step}").mkdir()
    newest = str(tmp_path / "checkpoint_1000000")
    assert beginnings.checkpoint_of(str(tmp_path), SMALL) == newest
    assert beginnings.checkpoint_of(newest, SMALL) == newest
    assert beginnings.step_of(newest) == 1_000_000
    assert beginnings.step_of(None) == 0


def test_what_is_no_checkpoint_is_said_with_the_mend(tmp_path):
    with pytest.raises(ValueError, match="there is no such folder"):
        beginnings.checkpoint_of(str(tmp_path / "none"), SMALL)
    with pytest.raises(ValueError, match="holds no checkpoint_<step>"):
        beginnings.checkpoint_of(str(tmp_path), SMALL)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(
        ValueError, match=r"Hugging Face folder; .* stepdistill convert .* checkpoints/t5_1_1_small"
    ):
        beginnings.checkpoint_of(str(tmp_path), SMALL)


def test_the_network_beside_a_converted_checkpoint_is_found(tmp_path):
    checkpoint = tmp_path / "checkpoint_1000000"
    checkpoint.mkdir()
    assert beginnings.student_beside(str(checkpoint)) is None
    (tmp_path / "model.gin").write_text("")
    assert beginnings.student_beside(str(checkpoint)) == str(tmp_path / "model.gin")
    assert beginnings.student_beside(str(tmp_path)) == str(tmp_path / "model.gin")
    assert beginnings.student_beside("scratch") is None
