import json

import pytest

from stepdistill_jax.base import whole_files
from stepdistill_jax.base.whole_files import JsonLines
from stepdistill_jax.engine.loop import run_folder

ROWS = [{"step": step, "split": "train", "loss": 1.0 / (step + 3)} for step in range(1, 6)]


def write(path, rows, keep_up_to_step=0):
    log = JsonLines(path, keep_up_to_step=keep_up_to_step)
    for row in rows:
        log.write(row)
    log.sync()
    log.close()
    return path.read_bytes()


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_an_object_is_a_line_and_can_be_read_while_the_file_is_open(tmp_path):
    log = JsonLines(tmp_path / "run" / "metrics.jsonl", keep_up_to_step=0)
    log.write(ROWS[0])
    assert read(tmp_path / "run" / "metrics.jsonl") == ROWS[:1]
    log.close()


def test_lines_after_the_restored_step_are_dropped(tmp_path):
    path = tmp_path / "metrics.jsonl"
    write(path, ROWS)
    JsonLines(path, keep_up_to_step=3).close()
    assert read(path) == ROWS[:3]


def test_an_interrupted_log_ends_with_the_bytes_of_an_uninterrupted_one(tmp_path):
    whole = write(tmp_path / "whole.jsonl", ROWS)
    write(tmp_path / "cut.jsonl", ROWS[:4])
    assert write(tmp_path / "cut.jsonl", ROWS[2:], keep_up_to_step=2) == whole


@pytest.mark.parametrize("length", [1, 10, -1])
def test_a_last_line_cut_short_is_dropped(tmp_path, length):
    path = tmp_path / "metrics.jsonl"
    torn = (json.dumps({"step": 2, "task": "überprüfung"}, ensure_ascii=False)).encode()
    torn = torn[:length] if length > 0 else torn[: torn.index("ü".encode()) + 1]  # inside a character
    path.write_bytes(write(path, ROWS[:1]) + torn)
    JsonLines(path, keep_up_to_step=9).close()
    assert read(path) == ROWS[:1]


def test_text_with_other_line_ends_stays_one_line(tmp_path):
    path = tmp_path / "metrics.jsonl"
    row = {"step": 1, "task": "a\u2028b\u0085c\nd"}
    write(path, [row])
    JsonLines(path, keep_up_to_step=1).close()
    assert [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]] == [row]


def test_a_file_is_written_whole_or_left_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "folder" / "run.json"
    whole_files.write_atomically(path, "first")
    assert path.read_text() == "first"

    def full_disk(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(whole_files.os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        whole_files.write_atomically(path, "second")
    assert path.read_text() == "first"
    monkeypatch.undo()
    whole_files.write_atomically(path, "third")
    assert [file.name for file in path.parent.iterdir()] == ["run.json"]


def test_run_json_says_what_was_run(tmp_path):
    assert run_folder.read_run_json(tmp_path) == {}
    run_folder.write_run_json(tmp_path, {"seed": 7, "first_step": 0})
    facts = run_folder.read_run_json(tmp_path)
    assert facts["seed"] == 7
    assert facts["devices"] == "8 x cpu"
    assert {"jax", "flax", "numpy"} <= set(facts["versions"])
    assert {"command", "commit", "python", "started"} <= set(facts)
