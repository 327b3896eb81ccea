"""A folder has one owner at a time, whatever becomes of the one before: ended, killed, of another host or boot."""

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from stepdistill_jax.base import folder_lock
from stepdistill_jax.base.folder_lock import FolderInUse, FolderLock, Owner

ROOT = Path(__file__).resolve().parents[2]
HOLD = """
import sys, time
from pathlib import Path
from stepdistill_jax.base.folder_lock import FolderLock
with FolderLock(Path(sys.argv[1]), "the run").held():
    print("held", flush=True)
    time.sleep(60)
"""
# Starts that wait for one moment; each says whether it got the lock, and keeps it until all have tried.
RACE = """
import sys, time
from pathlib import Path
from stepdistill_jax.base.folder_lock import FolderInUse, FolderLock
path, begin = Path(sys.argv[1]), float(sys.argv[2])
while time.time() < begin:
    pass
try:
    with FolderLock(path, "the run").held():
        print("got it", flush=True)
        time.sleep(2)
except FolderInUse:
    print("refused", flush=True)
"""


@pytest.fixture
def path(tmp_path):
    (tmp_path / "run").mkdir()
    return tmp_path / "run" / "owner.json"


@pytest.fixture
def start():
    """start(code, *arguments): a Python process, which ends with the test."""
    processes = []

    def begin(code, *arguments):
        command = [sys.executable, "-c", code, *map(str, arguments)]
        processes.append(subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True))
        return processes[-1]

    yield begin
    for process in processes:
        process.kill()
        process.communicate()


def own_owner(**changed):
    """This process as an owner, or one that differs from it."""
    mine = Owner(
        token="0" * 32,
        host="node7",
        machine=folder_lock._machine(),
        process=os.getpid(),
        started=folder_lock._start_of(os.getpid()),
        since="2026-11-28T10:00:00+00:00",
    )
    return dataclasses.replace(mine, **changed)


def leave(path, owner, *, seconds_ago=0.0):
    """A lock file as that owner has left it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(dataclasses.asdict(owner)))
    then = time.time() - seconds_ago
    os.utime(path, (then, then))


def is_free(path):
    lock = FolderLock(path, "the run")
    try:
        with lock.held():
            assert json.loads(path.read_text())["process"] == os.getpid()
    except FolderInUse:
        return False
    return True


def test_the_second_starter_is_told_who_the_first_is(path, start):
    first = start(HOLD, path)
    assert first.stdout.readline() == "held\n"
    with pytest.raises(FolderInUse) as refused, FolderLock(path, "MODEL_DIR runs/tiny").held():
        pass
    said = str(refused.value)
    assert re.fullmatch(
        r"MODEL_DIR runs/tiny is in use: process \d+ on \S+ is at work on it since 2\d{3}-\d\d-\d\dT[\d:+-]+\. "
        r"Wait for its end or stop it; or name another folder\.",
        said,
    )
    assert f"process {first.pid} on {os.uname().nodename}" in said
    assert refused.value.exit_status == 73


def test_the_lock_goes_with_its_owner(path):
    with FolderLock(path, "the run").held():
        assert not is_free(path)
    assert os.listdir(path.parent) == []
    assert is_free(path)


def test_a_folder_that_was_made_for_the_lock_goes_with_it_unless_something_is_in_it(tmp_path):
    for name in ("empty", "filled"):
        with FolderLock(tmp_path / name / "runs" / "owner.json", "the run").held():
            if name == "filled":
                (tmp_path / name / "runs" / "metrics.jsonl").write_text("")
    assert [path.name for path in (tmp_path / "filled" / "runs").iterdir()] == ["metrics.jsonl"]
    assert not (tmp_path / "empty" / "runs").exists()


def test_a_killed_owners_lock_is_taken_over_at_once(path, start):
    first = start(HOLD, path)
    first.stdout.readline()
    first.send_signal(signal.SIGKILL)  # a zombie from here on: nobody has asked for its status
    deadline = time.monotonic() + 10
    while not is_free(path):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_another_process_with_the_owners_number_is_not_the_owner(path):
    leave(path, own_owner(started="17"))
    assert is_free(path)


def test_a_stopped_owner_keeps_its_lock_however_long_it_is_silent(path, start):
    first = start(HOLD, path)
    first.stdout.readline()
    first.send_signal(signal.SIGSTOP)
    os.utime(path, (0, 0))
    assert not is_free(path)


@pytest.mark.parametrize(
    "machine",
    ["another boot pid:[1]", "this boot pid:[2]"],
    ids=["another boot or host", "another container"],
)
def test_a_lock_from_elsewhere_is_taken_over_once_it_is_silent_for_long(path, machine):
    leave(path, own_owner(machine=machine), seconds_ago=folder_lock.STALE_SECONDS + 1)
    assert is_free(path)


def test_a_lock_from_elsewhere_is_waited_for_and_its_first_touch_refuses(path, capsys):
    leave(path, own_owner(machine="elsewhere"), seconds_ago=5)
    threading.Timer(1.0, os.utime, [path]).start()
    assert not is_free(path)
    assert re.fullmatch(
        r"the run is in use: process \d+ on node7 .*: waiting for a sign of it; after 180 s without one its lock is taken over\.\n",
        capsys.readouterr().err,
    )


def test_the_wait_for_a_dead_host_ends_in_a_takeover(path, monkeypatch):
    monkeypatch.setattr(folder_lock, "STALE_SECONDS", 3.0)
    leave(path, own_owner(machine="elsewhere"), seconds_ago=2)
    assert is_free(path)


@pytest.mark.parametrize("content", ["", "{", '{"process": 3}', "[]"])
def test_a_lock_that_says_nothing_is_taken_over_by_its_age(path, content):
    path.write_text(content)
    os.utime(path, (0, 0))
    assert is_free(path)


@pytest.mark.parametrize("dead", [False, True], ids=["a free folder", "a dead owner's"])
def test_of_many_starters_one_gets_it(path, start, dead):
    if dead:
        leave(path, own_owner(started="17"))
    begin = time.time() + 1.5
    starters = [start(RACE, path, begin) for _ in range(8)]
    said = sorted(process.communicate(timeout=60)[0] for process in starters)
    assert said == ["got it\n"] + ["refused\n"] * 7
    assert os.listdir(path.parent) == []


def test_a_disk_without_hard_links_will_do(path, monkeypatch):
    def no_links(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "link", no_links)
    with FolderLock(path, "the run").held():
        assert not is_free(path)
    assert os.listdir(path.parent) == []


def test_an_owner_that_lost_its_lock_stops_and_leaves_the_others(path, monkeypatch):
    monkeypatch.setattr(folder_lock, "BEAT_SECONDS", 0.05)
    with FolderLock(path, "the run").held() as lock:
        lock.check()
        other = own_owner(token="1" * 32, process=4711)
        leave(path, other)
        deadline = time.monotonic() + 10
        while not lock._lost and time.monotonic() < deadline:
            time.sleep(0.01)
        with pytest.raises(FolderInUse, match=r"process 4711 on node7 .*so this process stops"):
            lock.check()
    assert json.loads(path.read_text())["process"] == 4711


def test_an_owner_shows_that_it_lives(path, monkeypatch):
    monkeypatch.setattr(folder_lock, "BEAT_SECONDS", 0.05)
    with FolderLock(path, "the run").held():
        os.utime(path, (0, 0))
        deadline = time.monotonic() + 10
        while path.stat().st_mtime == 0:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_a_folder_that_cannot_be_written_is_an_error_of_the_disk(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"), FolderLock(tmp_path / "file" / "owner.json", "it").held():
        pass
