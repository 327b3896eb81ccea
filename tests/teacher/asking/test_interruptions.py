"""Jobs in processes of their own: killed, stopped, and split over workers; what they cost, and what comes out."""

import base64
import dataclasses
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench.mock_llm_forms import FORMS, Said, in_form
from bench.mock_llm_server import MockServer, Reply, plums
from stepdistill_jax.datasets import record_io

HERE = Path(__file__).parents[1]
ROWS = 60
CONCURRENCY = 4
LATENCY_SECONDS = 0.02
KEY = "sk-never-to-be-written"


def _slow_plums(prompt, attempt, body):
    answer = plums(prompt, attempt, body)
    return Reply(answer.text, latency_seconds=LATENCY_SECONDS)


class Processes:
    """Runs `stepdistill` commands in children of one process that has imported everything."""

    def __init__(self, log):
        self.log = log
        self._parent = subprocess.Popen(
            [sys.executable, str(HERE / "job_process.py")],
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parents[1])]),
                "STEPDISTILL_TASKS": "orchard",
                "ORCHARD_ROWS": str(ROWS),
                "OPENAI_API_KEY": KEY,
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._read() == "ready"

    def start(self, *arguments):
        """The process id."""
        line = json.dumps({"arguments": [str(argument) for argument in arguments], "log": str(self.log)})
        self._parent.stdin.write(line + "\n")
        self._parent.stdin.flush()
        return int(self._read())

    def wait(self):
        """The exit status."""
        return int(self._read())

    def run(self, *arguments):
        self.start(*arguments)
        return self.wait()

    def close(self):
        self._parent.stdin.close()
        self._parent.wait(30)

    def _read(self):
        return self._parent.stdout.readline().strip()


@pytest.fixture(scope="module")
def processes(tmp_path_factory):
    started = Processes(tmp_path_factory.mktemp("log") / "log.txt")
    yield started
    started.close()


@pytest.fixture(scope="module")
def prepared(processes, tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared")
    assert processes.run("prepare", "orchard", "--data_dir", folder) == 0
    return folder


@pytest.fixture
def server():
    with MockServer(_slow_plums) as running:
        yield running


@pytest.fixture
def data(prepared, tmp_path):
    return shutil.copytree(prepared, tmp_path / "data")


@pytest.fixture(scope="module")
def expected(processes, prepared, tmp_path_factory):
    """The record files of a run that nobody interrupted."""
    data = shutil.copytree(prepared, tmp_path_factory.mktemp("whole") / "data")
    with MockServer() as server:
        assert processes.run(*_command(data, server)) == 0
        assert len(server.asked) == ROWS
    return _record_files(data)


def _command(data, server, *more):
    return (
        *("teach", "orchard", "--teacher", "openai:mock", "--base_url", server.url, "--data_dir", data),
        *("--concurrency", CONCURRENCY, "--shard_size", 7, *more),
    )


def _record_files(data):
    folder = data / "orchard" / "rationales" / "openai-mock"
    return {path.name: path.read_bytes() for path in folder.glob("*.tfrecord")}


def _kill_when(server, answered, pid, number, *, after_seconds=0.0):
    deadline = time.monotonic() + 60
    while server.answered.total() < answered and time.monotonic() < deadline:
        time.sleep(0.002)
    time.sleep(after_seconds)
    os.kill(pid, number)


def _kill_again_and_again(processes, server, data, *, kills):
    chance = random.Random(20)
    for kill in range(kills):
        goal = 1 + (ROWS - CONCURRENCY - 2) * kill // kills
        pid = processes.start(*_command(data, server))
        _kill_when(server, goal, pid, signal.SIGKILL, after_seconds=chance.uniform(0, 2 * LATENCY_SECONDS))
        assert processes.wait() in (-signal.SIGKILL, 0)
    assert processes.run(*_command(data, server)) == 0


def _check_nothing_was_lost(server, data, expected, *, kills):
    assert _record_files(data) == expected
    assert len(server.asked) == ROWS
    # What is asked again was under way at a kill: at most what may be under way at once.
    assert server.asked.total() - ROWS <= kills * CONCURRENCY
    requests = _manifest(data)["requests"]
    assert requests["answered"] == ROWS


def _manifest(data):
    return record_io.verify(data / "orchard" / "rationales" / "openai-mock")


def test_killed_jobs_ask_only_for_what_is_missing_and_write_the_same_bytes(processes, server, data, expected):
    _kill_again_and_again(processes, server, data, kills=3)
    _check_nothing_was_lost(server, data, expected, kills=3)


@pytest.mark.slow
def test_twenty_kills_lose_nothing(processes, server, data, expected):
    _kill_again_and_again(processes, server, data, kills=20)
    _check_nothing_was_lost(server, data, expected, kills=20)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_job_waits_for_what_is_under_way_and_says_how_to_go_on(
    processes, server, data, expected, number
):
    processes.log.write_text("")
    pid = processes.start(*_command(data, server))
    _kill_when(server, 10, pid, number)
    assert processes.wait() == 128 + number
    assert server.asked.total() == server.answered.total() < ROWS  # nothing was broken off
    assert "the same command goes on" in processes.log.read_text()
    assert processes.run(*_command(data, server)) == 0
    assert server.asked.total() == ROWS
    assert _record_files(data) == expected


def test_a_second_signal_stops_at_once(processes, data):
    with MockServer(lambda *_: Reply("late", latency_seconds=30.0)) as server:
        pid = processes.start(*_command(data, server))
        _wait_for(lambda: server.in_flight > 0)
        started = time.monotonic()
        os.kill(pid, signal.SIGTERM)
        time.sleep(0.2)
        os.kill(pid, signal.SIGTERM)
        assert processes.wait() == 128 + signal.SIGTERM
        assert time.monotonic() - started < 5


@pytest.mark.parametrize("limit", ["Retry-After", "--requests_per_minute"])
def test_a_job_that_only_waits_for_a_limit_stops_at_once(processes, data, limit):
    busy = Reply(status=429, headers={"Retry-After": "300"})
    with MockServer(lambda *_: busy if limit == "Retry-After" else Reply("So. The answer is (1).")) as server:
        more = () if limit == "Retry-After" else (limit, "1")
        pid = processes.start(*_command(data, server, *more))
        _wait_for(lambda: server.asked and server.in_flight == 0)
        time.sleep(0.2)
        started = time.monotonic()
        os.kill(pid, signal.SIGTERM)
        assert processes.wait() == 128 + signal.SIGTERM
        assert time.monotonic() - started < 5


def _wait_for(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.005)
    assert condition()


@pytest.mark.parametrize("workers", [2, 4])
def test_workers_on_shards_give_the_same_records_after_the_merge(processes, server, data, expected, workers):
    for index in range(workers):
        assert processes.run(*_command(data, server, "--shard", f"{index}/{workers}")) == 0
    assert _record_files(data) == {}
    assert processes.run(*_command(data, server, "--merge", workers)) == 0
    assert _record_files(data) == expected
    assert server.asked.total() == ROWS
    assert _manifest(data)["requests"]["asked"] == ROWS


def test_merging_names_the_shard_that_is_missing_or_unfinished(processes, server, data):
    processes.log.write_text("")
    assert processes.run(*_command(data, server, "--shard", "0/2")) == 0
    assert processes.run(*_command(data, server, "--merge", "2")) == 2
    assert "run the job with --shard 1/2" in processes.log.read_text()
    pid = processes.start(*_command(data, server, "--shard", "1/2"))
    _kill_when(server, 40, pid, signal.SIGKILL)
    assert processes.wait() == -signal.SIGKILL
    assert processes.run(*_command(data, server, "--merge", "2")) == 2
    assert "of shard 1/2; start that again" in processes.log.read_text()


def test_merging_refuses_what_was_answered_twice(processes, server, data):
    processes.log.write_text("")
    assert processes.run(*_command(data, server, "--shard", "0/2")) == 0
    answers = data / "orchard" / "answers" / "openai-mock"
    shutil.copy(answers / "answers-00000-of-00002.sqlite", answers / "answers-00001-of-00002.sqlite")
    assert processes.run(*_command(data, server, "--merge", "2")) == 2
    assert "is answered in both" in processes.log.read_text()


def test_a_shard_does_not_ask_what_an_earlier_job_without_shards_was_told(processes, server, data, expected):
    pid = processes.start(*_command(data, server))
    _kill_when(server, 20, pid, signal.SIGKILL)
    processes.wait()
    for index in range(2):
        assert processes.run(*_command(data, server, "--shard", f"{index}/2")) == 0
    assert processes.run(*_command(data, server, "--merge", "2")) == 0
    assert server.asked.total() - ROWS <= CONCURRENCY
    assert _record_files(data) == expected


def test_a_second_job_on_the_same_answers_is_refused(processes, server, data):
    processes.log.write_text("")
    store = data / "orchard" / "answers" / "openai-mock" / "answers.sqlite"
    from stepdistill_jax.teacher.asking.answer_store import AnswerStore

    with AnswerStore(store):
        assert processes.run(*_command(data, server)) == 2
    assert "is in use by another job" in processes.log.read_text()
    assert server.asked.total() == 0


@pytest.mark.parametrize("credentials", ["", "user:hunter2@"], ids=["key", "key and password in the URL"])
def test_the_key_is_in_no_file_that_a_run_wrote(processes, server, data, credentials):
    """The server does its worst: it sends the credentials back in errors and in answers."""
    basic = base64.b64encode(b"user:hunter2").decode()
    sent = set()

    def indiscreet(prompt, attempt, body):
        authorization = server.headers["authorization"]
        sent.add(authorization)
        if attempt == 0 and " 8 plums" in prompt:
            error = {"error": {"message": f"bad {authorization}"}}
            return Reply(status=500, raw=json.dumps(error).encode())
        if " 7 plums" in prompt:
            return Reply(status=400, raw=f"no {authorization}".encode())
        return Reply(f"{authorization} it is. The answer is (1 + 2).")

    server.behaviour = indiscreet
    processes.log.write_text("")
    url = server.url.replace("http://", f"http://{credentials}")
    assert processes.run(*(url if part == server.url else part for part in _command(data, server))) == 0
    assert sent == {f"Basic {basic}" if credentials else f"Bearer {KEY}"}
    written = [processes.log, *(path for path in data.rglob("*") if path.is_file())]
    assert len(written) > 10
    for path in written:
        for secret in (KEY, "hunter2", basic):
            assert secret.encode() not in path.read_bytes(), path
    assert _manifest(data)["requests"]["failed"] == {"HTTP 400": 1}


SLOW_FORMS = ("vllm", "llama.cpp", "hosted")


@pytest.mark.parametrize(
    "form",
    ["vllm with a reasoning parser", *(pytest.param(form, marks=pytest.mark.slow) for form in SLOW_FORMS)],
)
def test_a_killed_job_of_a_reasoning_model_writes_the_same_bytes(
    processes, server, data, prepared, tmp_path, form
):
    behave = in_form(
        FORMS[form],
        lambda n: Said(
            f"Is it {n}? " * (1 + n % 7), "" if n % 5 == 0 else f"Two more. The answer is 2 * ({n} + 2)."
        ),
    )
    server.behaviour = lambda *asked: dataclasses.replace(behave(*asked), latency_seconds=LATENCY_SECONDS)
    more = ["--max_tokens", "24", "--rationale_from", "thoughts"]
    if form == "hosted":
        for option in ("max_tokens_field=max_completion_tokens", "temperature=none", "stop=none"):
            more += ["--teacher_option", option]
    whole = shutil.copytree(prepared, tmp_path / "whole")
    assert processes.run(*_command(whole, server, *more)) == 0
    asked = server.asked.total()
    assert asked == ROWS
    server.answered.clear()
    pid = processes.start(*_command(data, server, *more))
    _kill_when(server, ROWS // 2, pid, signal.SIGKILL)
    assert processes.wait() == -signal.SIGKILL
    assert processes.run(*_command(data, server, *more)) == 0
    assert server.asked.total() - asked <= ROWS + CONCURRENCY
    assert _record_files(data) == _record_files(whole)
    assert _manifest(data)["unparsed"] == _manifest(whole)["unparsed"]
    assert sum(_manifest(data)["parsed"].values()) > ROWS // 3
