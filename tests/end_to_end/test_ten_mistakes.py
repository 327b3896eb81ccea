"""What goes wrong on the way from a table to a served student is one line each, with its mend; nothing is left behind."""

import contextlib
import os
import socket
import subprocess
import sys
from pathlib import Path

import gin
import pytest

from stepdistill_jax import cli

ROOT = Path(__file__).resolve().parents[2]
ROWS = "".join(f'"Ticket {n}, again",Text {n},{("access", "hardware")[n % 2]}\n' for n in range(40))
TABLES = {
    "tickets.csv": f"subject,body,queue\n{ROWS}",
    "one.csv": "subject,body,queue\n" + "".join(f"Ticket {n},Text,access\n" for n in range(40)),
    "ragged.csv": f"subject,body,queue\n{ROWS}Login,Wrong password\n",
    "empty.csv": "subject,body,queue\n",
}
PREPARE = ("--name", "tickets", "--inputs", "{subject}", "--label", "queue")


@pytest.fixture
def error_of(tmp_path, monkeypatch, capsys):
    """error_of(*arguments) -> the one line that a command ends with, in a folder with the tables."""
    for name, text in TABLES.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("STEPDISTILL_")]:
        monkeypatch.delenv(name)

    def run(*arguments):
        with contextlib.suppress(SystemExit):
            assert cli.main(list(map(str, arguments))) not in (0, 1)
        lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("stepdistill")]
        assert len(lines) == 1
        return lines[0]

    yield run
    gin.clear_config()  # of runs that were planned


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["prepare", "tickets.csv", "--name", "tickets", "--inputs", "{subjet}", "--label", "queue"], ["subjet", "subject"]),
        (["prepare", "one.csv", *PREPARE], ["--label queue", "access", "name another column"]),
        (["prepare", "ragged.csv", *PREPARE], ["ragged.csv", "42"]),
        (["prepare", "tickets.csv", *PREPARE, "--validation", "empty.csv"], ["empty.csv"]),
        (["prepare", "ticket.csv", *PREPARE], ["ticket.csv"]),
        (["teach", "tickts", "--teacher", "openai:m"], ["tickts"]),
        (["train", "tickets", "--student", "t5_small"], ["t5_small", "nearest"]),
        (["predict", "runs/none", "--input", "tickets.csv", "--output", "answers.csv"], ["runs/none"]),
        (["report", "runs/none"], ["runs/none", "MODEL_DIR"]),
        (["export", "runs/none", "--to", "ctranslate2", "--output", "out"], ["runs/none"]),
        (["serve", "runs/none", "--port", "99999"], ["--port=99999", "65535"]),
    ],
    ids=lambda value: " ".join(value)[:50],
)  # fmt: skip
def test_a_mistake_is_one_line_that_names_it(error_of, tmp_path, arguments, parts):
    line = error_of(*arguments)
    assert [part for part in parts if part not in line] == []
    assert {path.name for path in tmp_path.iterdir()} - {"data"} == set(TABLES)
    assert not (tmp_path / "data" / "tickets" / "examples").exists()


def test_a_student_without_examples_to_validate_on_is_told_how_to_get_them(error_of, capsys):
    assert cli.main(["prepare", "tickets.csv", *PREPARE, "--holdout", "0"]) == 0
    capsys.readouterr()
    line = error_of("train", "tickets", "--student", "byt5_tiny", "--method", "fine_tuning")
    assert "tickets has no examples in its validation split" in line
    assert "40 train" in line
    assert "Prepare it again" in line


def test_a_vocabulary_that_is_not_there_or_is_none_is_named(error_of, capsys, monkeypatch):
    assert cli.main(["prepare", "tickets.csv", *PREPARE]) == 0
    capsys.readouterr()
    train = ("train", "tickets", "--student", "t5_1_1_small", "--from", "scratch", "--method", "fine_tuning")
    line = error_of(*train)
    assert (
        "T5's vocabulary is not at data/vocabularies/t5.model; run `stepdistill prepare t5_vocabulary`"
        in line
    )
    monkeypatch.setenv("STEPDISTILL_VOCABULARY", "one.csv")
    assert error_of(*train).startswith("stepdistill: error: one.csv is no SentencePiece model")


def test_a_step_that_is_missing_is_named(error_of, capsys):
    assert cli.main(["prepare", "tickets.csv", *PREPARE]) == 0
    capsys.readouterr()
    line = error_of("train", "tickets", "--student", "byt5_tiny")
    assert "No rationales in" in line
    assert "stepdistill teach tickets" in line
    assert "--method fine_tuning needs none" in line


def test_a_teacher_that_is_not_there_is_one_line(error_of, capsys):
    assert cli.main(["prepare", "tickets.csv", *PREPARE]) == 0
    capsys.readouterr()
    with contextlib.closing(socket.socket()) as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/v1"
    line = error_of("teach", "tickets", "--teacher", "openai:m", "--base_url", url)
    assert url.removesuffix("/v1") in line


def test_a_port_in_use_is_one_line(finished_run):
    with contextlib.closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "-m", "stepdistill_jax", "serve", str(finished_run), "--port", str(port)],
            capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
    (line,) = [line for line in done.stderr.splitlines() if "error:" in line]
    assert done.returncode == 2
    assert f"{port}" in line
    assert "--port" in line
