"""A damaged answer store: what can be read is taken over, nothing wrong is; a full disk and a pulled plug lose nothing."""

import contextlib
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time

import pytest

from stepdistill_jax.teacher import Answer, Request
from stepdistill_jax.teacher.answers.requests import Failure
from stepdistill_jax.teacher.asking import answer_files
from stepdistill_jax.teacher.asking.answer_store import AnswerStore, Batch
from stepdistill_jax.teacher.asking.damaged_store import DamagedFile, salvage

NUM_ANSWERS = 400


def _request(number):
    return Request(f"plums/train/{number}", "model", f"How many? {number}")


def _answer(number):
    """Short ones, and some that fill several pages; of all alphabets."""
    words = 700 if number % 40 == 0 else 20
    return Answer(
        f"{number} naïve 桃 🍑 " + f"plum {number} " * words,
        "stop",
        number,
        3,
        "model-1",
        "hm " * (number % 3),
    )


def _fill(path, *, checkpoint=True):
    with AnswerStore(path) as store:
        for start in range(0, NUM_ANSWERS, 50):
            batch = Batch(answers=[(_request(n), _answer(n)) for n in range(start, start + 50)])
            batch.counters.update(answered=50)
            store.commit(batch)
        failures = [(_request(NUM_ANSWERS), Failure("HTTP 400", "too long"))]
        store.commit(Batch(failures=failures))
        store.note_asked({"train": "5e" * 32})
        if not checkpoint:
            for ending in ("", "-wal"):
                shutil.copy(f"{path}{ending}", f"{path}.now{ending}")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "answers.sqlite"
    _fill(path)
    return path


def _invert(path, start, length=300):
    data = bytearray(path.read_bytes())
    data[start : start + length] = bytes(byte ^ 0xFF for byte in data[start : start + length])
    path.write_bytes(data)


def _check_salvaged(path, *, most_lost):
    keys = [_request(n).key for n in range(NUM_ANSWERS)]
    with AnswerStore(path) as store:
        store.check()
        found = store.replies(keys, failures="none")
        assert store.num_answers() <= NUM_ANSWERS + 1  # a key that is damaged itself answers nothing
    for number, key in enumerate(keys):
        assert found.get(key, _answer(number)) == _answer(number)
    assert len(found) >= NUM_ANSWERS - most_lost
    return found


@pytest.mark.parametrize("seed", range(12))
def test_what_is_around_300_inverted_bytes_is_read_and_nothing_wrong_is(whole, tmp_path, seed):
    path = tmp_path / "answers.sqlite"
    shutil.copy(whole, path)
    _invert(path, random.Random(seed).randrange(path.stat().st_size - 300))
    salvage(path)
    _check_salvaged(
        path, most_lost=30
    )  # two pages hold some 16 short answers; an inner one points to others' rows


@pytest.mark.parametrize("start", [0, 100, 4096, 8192], ids=["header", "schema", "second page", "third page"])
def test_pages_that_sqlite_needs_to_find_others_are_not_needed(whole, tmp_path, start):
    path = tmp_path / "answers.sqlite"
    shutil.copy(whole, path)
    _invert(path, start)
    salvage(path)
    found = _check_salvaged(path, most_lost=30)
    with AnswerStore(path) as store:
        failed = store.replies([_request(NUM_ANSWERS).key])
    assert set(failed.values()) <= {Failure("HTTP 400", "too long")}
    assert len(found) > 0.9 * NUM_ANSWERS


def test_all_of_an_undamaged_file_is_read_that_of_its_log_too(tmp_path):
    _fill(tmp_path / "answers.sqlite", checkpoint=False)
    path = tmp_path / "answers.sqlite.now"
    assert path.with_name(path.name + "-wal").stat().st_size > 100_000
    damaged = DamagedFile(path)
    rows = list(damaged.rows())
    assert damaged.num_unreadable == 0
    assert len({row[0] for table, row in rows if table == "answers"}) == NUM_ANSWERS
    path.write_bytes(b"\xff" * path.stat().st_size)  # the log has all pages
    assert f"{NUM_ANSWERS:,} answers were read out of it" in salvage(path)
    _check_salvaged(path, most_lost=0)
    with AnswerStore(path) as store:
        assert store.asked() == {("train", "5e" * 32)}
        assert store.counters() == {"answered": NUM_ANSWERS}
        assert store.replies([_request(NUM_ANSWERS).key]) == {
            _request(NUM_ANSWERS).key: Failure("HTTP 400", "too long")
        }


@pytest.mark.skipif(shutil.which("sqlite3") is None, reason="the program sqlite3 is not installed")
def test_at_least_as_much_is_read_as_sqlites_own_recovery_reads(whole, tmp_path):
    for seed in range(4):
        path = tmp_path / f"{seed}.sqlite"
        shutil.copy(whole, path)
        _invert(path, random.Random(seed).randrange(path.stat().st_size - 300))
        script = subprocess.run(["sqlite3", str(path), ".recover"], capture_output=True, check=False).stdout
        recovered = tmp_path / f"{seed}.recovered"
        subprocess.run(["sqlite3", str(recovered)], input=script, capture_output=True, check=False)
        with contextlib.closing(sqlite3.connect(recovered)) as connection:
            connection.text_factory = bytes
            try:
                texts = {text for (text,) in connection.execute("select text from answers")}
            except sqlite3.Error:
                texts = set()
        whole_texts = {_answer(n).text.encode() for n in range(NUM_ANSWERS)}
        salvage(path)
        with AnswerStore(path) as store:
            assert store.num_answers() >= len(texts & whole_texts)


def test_a_damaged_store_is_salvaged_when_its_job_starts_and_the_old_one_is_kept(whole, tmp_path, capsys):
    path = tmp_path / "answers.sqlite"
    shutil.copy(whole, path)
    _invert(path, 4096 * 20 + 1000)
    damaged = path.read_bytes()
    answer_files.open_store(path).close()
    [line] = capsys.readouterr().err.splitlines()
    assert "answers.sqlite was damaged" in line
    [kept] = tmp_path.glob("answers.sqlite.damaged-*")
    assert kept.name in line
    assert kept.read_bytes() == damaged
    with AnswerStore(path) as store:
        lost = NUM_ANSWERS - store.num_answers()
    assert lost > 0
    assert f"{lost:,} are lost" in line
    answer_files.open_store(path).close()
    assert capsys.readouterr().err == ""


def test_a_damaged_store_that_is_only_read_is_an_error_of_one_line(whole, tmp_path):
    path = tmp_path / "answers.sqlite"
    shutil.copy(whole, path)
    for page in range(1, path.stat().st_size // 4096):
        _invert(path, 4096 * page)
    with pytest.raises(ValueError, match=r"answers\.sqlite is damaged .*Start the job that writes it again"):
        AnswerStore(path, read_only=True)


def test_a_file_that_is_no_store_is_left_alone(tmp_path):
    path = tmp_path / "answers.sqlite"
    path.write_text("notes of mine " * 1000)
    with pytest.raises(ValueError, match="is not an answer store; move it away"):
        answer_files.open_store(path)
    assert [file.name for file in tmp_path.iterdir()] == ["answers.sqlite"]


def test_a_full_disk_is_an_error_of_the_disk_and_what_was_answered_is_kept(tmp_path):
    path = tmp_path / "answers.sqlite"
    with AnswerStore(path) as store:
        store.commit(Batch(answers=[(_request(0), _answer(0))]))
        store._connection.execute("pragma max_page_count = 12")  # what a full disk does
        with pytest.raises(OSError, match="No space left on device; what was answered before is kept"):
            store.commit(Batch(answers=[(_request(n), _answer(n)) for n in range(1, NUM_ANSWERS)]))
    with AnswerStore(path) as store:
        assert store.replies([_request(0).key]) == {_request(0).key: _answer(0)}
        assert store.num_answers() == 1


WRITER = """
import sys
from pathlib import Path
from stepdistill_jax.teacher.asking.answer_store import AnswerStore, Batch
from tests.teacher.asking.test_damaged_store import _answer, _request
with AnswerStore(Path(sys.argv[1])) as store:
    for number in range(100_000):
        store.commit(Batch(answers=[(_request(number), _answer(number))]))
        if number % 7 == 0:
            store.sync()
        print(number, flush=True)
"""


def test_every_acknowledged_answer_is_there_after_the_plug_was_pulled_at_any_point_of_a_commit(tmp_path):
    """The writer is stopped at a random instant; what its files hold then is all that there is."""
    path = tmp_path / "answers.sqlite"
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE)
    os.set_blocking(writer.stdout.fileno(), False)
    chance, acknowledged, pulled = random.Random(5), b"", []
    try:
        while len(pulled) < 25:
            time.sleep(chance.uniform(0.0, 0.03))
            writer.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, writer.pid, os.WSTOPPED)
            acknowledged += writer.stdout.read() or b""
            if whole_lines := acknowledged.split(b"\n")[:-1]:
                copy = tmp_path / f"{len(pulled)}.sqlite"
                for ending in ("", "-wal"):
                    shutil.copy(f"{path}{ending}", f"{copy}{ending}")
                pulled.append((copy, int(whole_lines[-1])))
            writer.send_signal(signal.SIGCONT)
    finally:
        writer.kill()
        writer.wait()
    assert pulled[-1][1] > pulled[0][1]
    for copy, last in pulled:
        with AnswerStore(copy) as store:
            store.check()
            found = store.replies([_request(n).key for n in range(last + 1)])
        assert found == {_request(n).key: _answer(n) for n in range(last + 1)}
