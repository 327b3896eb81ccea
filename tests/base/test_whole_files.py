"""Files and folders are whole or not there, whatever ends the writing: an error, another writer or a kill."""

import errno
import json
import signal
import subprocess
import sys

import pytest

from stepdistill_jax.base import whole_files
from stepdistill_jax.base.whole_files import JsonLines, copy_atomically, new_folder, write_atomically

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


def full_disk(*_):
    raise OSError("No space left on device")


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_text_is_written_whole_or_left_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "folder" / "run.json"
    write_atomically(path, "first\r\nand more\n")
    assert path.read_bytes() == b"first\r\nand more\n"
    monkeypatch.setattr(whole_files.os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, "second")
    assert path.read_bytes() == b"first\r\nand more\n"
    assert names(path.parent) == ["run.json"]
    monkeypatch.undo()
    write_atomically(path, "third")
    assert path.read_text() == "third"
    assert names(path.parent) == ["run.json"]


def test_a_file_is_copied_whole_or_left_as_it_was(tmp_path, monkeypatch):
    source, path = tmp_path / "source", tmp_path / "folder" / "t5.model"
    source.write_bytes(b"\x00\xff one")
    copy_atomically(source, path)
    assert path.read_bytes() == b"\x00\xff one"
    source.write_bytes(b"two")
    monkeypatch.setattr(whole_files.shutil, "copyfile", full_disk)
    with pytest.raises(OSError, match="No space left"):
        copy_atomically(source, path)
    assert path.read_bytes() == b"\x00\xff one"
    assert names(path.parent) == ["t5.model"]


def test_a_folder_is_filled_under_another_name(tmp_path):
    path = tmp_path / "deep" / "model"
    with new_folder(path) as folder:
        (folder / "a").write_text("1")
        assert not path.exists()
        assert folder.parent == path.parent
        assert folder.name.startswith(".model.")
    assert (path / "a").read_text() == "1"
    assert names(path.parent) == ["model"]


def test_a_folder_that_is_there_is_refused_before_any_work(tmp_path):
    path = tmp_path / "model"
    path.mkdir()
    (path / "kept").write_text("1")
    with (
        pytest.raises(
            FileExistsError, match="model exists; name a folder that is not there yet, or move it away"
        ),
        new_folder(path),
    ):
        raise AssertionError("it was not refused")
    assert names(path) == ["kept"]
    with pytest.raises(FileExistsError, match="kept exists"), new_folder(path / "kept"):
        raise AssertionError("a file was not refused")


def test_a_file_in_the_place_of_a_parent_is_named(tmp_path):
    (tmp_path / "table.csv").write_text("1")
    for path in (tmp_path / "table.csv" / "model", tmp_path / "table.csv" / "deeper" / "model"):
        with (
            pytest.raises(FileExistsError, match=r"model: \S*table\.csv is a file.*name a folder"),
            new_folder(path),
        ):
            raise AssertionError("it was not refused")


def test_an_empty_folder_is_no_obstacle(tmp_path):
    (tmp_path / "model").mkdir()
    with new_folder(tmp_path / "model") as folder:
        (folder / "a").write_text("1")
    assert names(tmp_path / "model") == ["a"]


@pytest.mark.parametrize("replaces", [False, True])
def test_an_error_takes_a_folder_away_again(tmp_path, replaces):
    def work():
        with new_folder(tmp_path / "model", replaces=replaces) as folder:
            (folder / "a").write_text("1")
            raise KeyError("of the work")

    with pytest.raises(KeyError, match="of the work"):
        work()
    assert names(tmp_path) == []


def test_an_older_folder_gives_way_once_the_new_one_is_whole(tmp_path):
    path = tmp_path / "records"
    for text in ("first", "second"):
        with new_folder(path, replaces=True) as folder:
            (folder / text).write_text(text)
            assert text == "first" or names(path) == ["first"]
    assert names(path) == ["second"]
    with pytest.raises(KeyError), new_folder(path, replaces=True):
        raise KeyError
    assert names(path) == ["second"]
    assert names(tmp_path) == ["records"]


KILLED = """
import sys, time
from pathlib import Path
from stepdistill_jax.base import whole_files
whole_files._beside = lambda path, ending: path.with_name(f".{path.name}.a-host-7.{ending}")
folder = Path(sys.argv[1])
if sys.argv[2] == "text":
    whole_files.os.fsync = lambda _: (print("ready", flush=True), time.sleep(60))
    whole_files.write_atomically(folder / "out", "half")
with whole_files.new_folder(folder / "out", replaces=sys.argv[2] == "records") as new:
    (new / "half").write_text("half")
    print("ready", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("kind", ["text", "folder", "records"])
def test_a_kill_leaves_what_was_there_and_the_same_process_number_clears_the_rest(
    tmp_path, kind, monkeypatch
):
    path = tmp_path / "out"
    if kind == "text":
        path.write_text("before")
    if kind == "records":
        path.mkdir()
        (path / "before").write_text("before")
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path), kind], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    there = [] if kind == "folder" else ["out"]
    assert names(tmp_path) == [".out.a-host-7.tmp", *there]
    assert kind != "text" or path.read_text() == "before"
    assert kind != "records" or names(path) == ["before"]

    monkeypatch.setattr(whole_files.platform, "node", lambda: "a-host")
    monkeypatch.setattr(whole_files.os, "getpid", lambda: 7)
    if kind == "text":
        write_atomically(path, "after")
        assert path.read_text() == "after"
    else:
        with new_folder(path, replaces=kind == "records") as folder:
            (folder / "after").write_text("after")
        assert names(path) == ["after"]
    assert names(tmp_path) == ["out"]


def test_processes_of_one_number_on_two_hosts_do_not_meet(tmp_path, monkeypatch):
    monkeypatch.setattr(whole_files.os, "getpid", lambda: 1)
    with new_folder(tmp_path / "records", replaces=True) as first:
        monkeypatch.setattr(whole_files.platform, "node", lambda: "another")
        with new_folder(tmp_path / "records", replaces=True) as second:
            assert first != second
            (second / "of").write_text("another")
        monkeypatch.undo()
        monkeypatch.setattr(whole_files.os, "getpid", lambda: 1)
        (first / "of").write_text("this")
    assert (tmp_path / "records" / "of").read_text() == "this"
    assert names(tmp_path) == ["records"]


def test_a_failed_write_names_the_file_where_the_system_does_not(tmp_path):
    with (
        pytest.raises(OSError, match=r"No space left.*model\.bin") as caught,
        whole_files.whole_file(tmp_path / "model.bin"),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert caught.value.errno == errno.ENOSPC
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_names_the_folder_that_is_not_written(tmp_path):
    with (
        pytest.raises(OSError, match=r"No space left.*/model'") as caught,
        new_folder(tmp_path / "model"),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert caught.value.errno == errno.ENOSPC
    assert list(tmp_path.iterdir()) == []
