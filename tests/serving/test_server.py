"""Whole servers, as processes of their own."""

import asyncio
import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import aiohttp
import pytest

from stepdistill_jax import cli
from stepdistill_jax.serving import server
from stepdistill_jax.serving.limits import Limits

HERE = Path(__file__).parent


@contextlib.contextmanager
def served(*arguments, until="ready"):
    """(process, url) of a server of the fake student, once it says so."""
    command = [sys.executable, str(HERE / "served_fake.py"), "0", *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": f"{HERE.parents[1]}:{HERE}"}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    watch = threading.Timer(60, process.kill)
    watch.start()
    try:
        said = ""
        while until not in said:
            said = process.stderr.readline()
            assert said, "the server ended by itself"
            if "listening" in said:
                url = re.search(r"http://[\d.:]+", said)[0]
        yield process, url
    finally:
        watch.cancel()
        process.kill()
        process.wait()


def ended(process):
    """(exit status, what it said since)."""
    _, said = process.communicate(timeout=30)
    return process.returncode, said


def test_what_is_in_flight_is_answered_when_it_is_told_to_stop():
    async def client(url, number, counts):
        async with aiohttp.ClientSession() as session:
            while True:
                try:
                    async with session.post(f"{url}/predict", json={"text": f"u {number}"}) as response:
                        counts[response.status] = counts.get(response.status, 0) + 1
                        assert (await response.json())["label"] == "urgent"
                except aiohttp.ClientConnectorError:
                    return "refused"  # a new connection, after the port was closed
                except aiohttp.ClientConnectionError:
                    return "lost"

    async def load(process, url):
        counts = {}
        clients = [asyncio.create_task(client(url, number, counts)) for number in range(16)]
        while counts.get(200, 0) < 100:
            await asyncio.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        return counts, await asyncio.gather(*clients)

    with served(0.01) as (process, url):
        counts, ends = asyncio.run(asyncio.wait_for(load(process, url), 30))
        status, said = ended(process)
    assert (status, counts.keys()) == (0, {200})
    assert ends == ["refused"] * 16
    assert "stopped" in said


def test_work_that_outlasts_the_grace_time_is_left_and_the_status_says_so():
    async def ask(process, url):
        async with aiohttp.ClientSession() as session:
            request = asyncio.create_task(session.post(f"{url}/predict", json={"text": "u"}))
            await asyncio.sleep(0.3)
            process.send_signal(signal.SIGTERM)
            with contextlib.suppress(aiohttp.ClientError):
                (await request).release()

    with served(20, 0.5) as (process, url):
        started = time.monotonic()
        asyncio.run(ask(process, url))
        status, said = ended(process)
    assert status == 1
    assert time.monotonic() - started < 15
    assert "--grace_seconds gives them longer" in said


def test_what_is_no_http_is_400_and_one_line_of_the_log():
    with served(0) as (process, url):
        host, port = url.removeprefix("http://").split(":")
        for sent in (b"Content-Length: -5\r\n\r\n", b"Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}"):
            with socket.create_connection((host, int(port)), timeout=20) as connection:
                connection.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\n" + sent)
                assert b" 400 Bad Request\r\n" in connection.recv(1000)
        process.send_signal(signal.SIGTERM)
        status, said = ended(process)
    assert status == 0
    assert "Traceback" not in said
    assert "Invalid character in Content-Length" in said


def test_it_serves_on_when_whoever_read_its_log_is_gone():
    with served(0) as (process, url):
        process.stderr.close()
        host, port = url.removeprefix("http://").split(":")
        answers = []
        for text in (b"fail", b"u"):
            with socket.create_connection((host, int(port)), timeout=20) as connection:
                body = b'{"text": "%s"}' % text
                head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
                connection.sendall(head + body)
                answers.append(connection.recv(1000).split(b"\r\n")[0])
        process.send_signal(signal.SIGTERM)
        status = process.wait(30)
    assert answers == [b"HTTP/1.1 500 Internal Server Error", b"HTTP/1.1 200 OK"]
    assert status == 0


def test_it_stops_while_it_loads():
    with served(0, 5, 30, until="listening") as (process, _):
        process.send_signal(signal.SIGTERM)
        status, said = ended(process)
    assert status == 0
    assert "stopped" in said


def test_a_student_that_does_not_load_ends_it_with_that_error():
    with pytest.raises(ValueError, match="there is no student here"):
        server.serve(fail, host="127.0.0.1", port=0, limits=Limits())


def fail():
    raise ValueError("there is no student here")


def test_a_port_in_use_is_one_line_before_anything_loads(tmp_path, capsys, monkeypatch):
    for name in ("NPROC", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.setenv(name, "1")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert cli.main(["serve", str(tmp_path), "--port", str(port)]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(f"stepdistill: error: 127.0.0.1:{port} is in use")
    assert "--port" in error


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--port", "70000"], "--port=70000; use 0 to 65535"),
        (["--threads", "0"], "--threads=0; use 1 or more"),
        (["--batch_rows", "0"], "--batch_rows=0; it must be at least 1"),
        (["--port", "0", "--host", "no.such.host.invalid"], "--host=no.such.host.invalid"),
    ],
)
def test_a_wrong_flag_is_one_line(tmp_path, capsys, monkeypatch, flags, said):
    for name in ("NPROC", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.setenv(name, "1")
    assert cli.main(["serve", str(tmp_path), *flags]) == 2
    assert said in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.slow
def test_twenty_stops_under_load_are_all_clean():
    for _ in range(20):
        test_what_is_in_flight_is_answered_when_it_is_told_to_stop()
