"""Every command's --help has an example that runs as it stands there."""

import contextlib
import importlib.util
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from made_up_students import CHOICES, description_of, write_student

from stepdistill_jax import cli

ROOT = Path(__file__).resolve().parents[2]
TICKETS = 'subject,body,queue\n"Printer ""A""","On fire,\nagain",hardware\nLogin,Wrong password,access\n'
# Command -> the line of its --help that is run in a folder with the word problems, runs on them, and a table.
EXAMPLES = {
    "prepare": r'stepdistill prepare tickets.csv --name tickets --inputs "{subject}\n{body}" --label queue',
    "teach": "stepdistill teach wordproblems --teacher worked",
    "teach show": "stepdistill teach show data/wordproblems/rationales/worked",
    "train": "stepdistill train wordproblems --student t5_1_1_tiny --method fine_tuning --dry_run",
    "eval": "stepdistill eval runs/tiny",
    "infer": "stepdistill infer runs/tiny",
    "predict": 'stepdistill predict runs/tiny "Mia has 12 apples and buys 5 more. How many apples does she have?"',
    "sweep": "stepdistill sweep --list",
    "report": "stepdistill report runs/fine_tuning runs/step_by_step --output report",
    "verify": "stepdistill verify data",
    "convert": "stepdistill convert runs/tiny/checkpoint_1000 exported/tiny --dtype bfloat16",
    "export": "stepdistill export runs/tickets --to ctranslate2 --quantization int8 --output tickets_int8",
}
# These serve until they are stopped.
SERVERS = {
    "serve": "stepdistill serve runs/tickets --port 8080",
    "teach serve": "stepdistill teach serve smollm2 --port 8123 --threads 2 --slots 2",
}
# These take half a minute and more.
LONG = {
    "demo": "stepdistill demo --teacher worked --steps 100",
    "precompile": "stepdistill precompile runs/tiny --topology cpu:8 --gin.NUM_PARTITIONS=2",
}


@pytest.fixture(scope="module")
def workplace(tmp_path_factory, finished_run, data_dir):
    """A folder with data/, runs/ and a table, as the examples name them."""
    folder = tmp_path_factory.mktemp("workplace")
    shutil.copytree(data_dir, folder / "data")
    for name in ("tiny", "fine_tuning", "step_by_step"):
        run = shutil.copytree(finished_run, folder / "runs" / name)
        settings = json.loads((run / "run.json").read_text(encoding="utf-8"))
        settings["starts"][0]["started"] += f", as {name}"  # a report takes no copy for another run
        (run / "run.json").write_text(json.dumps(settings), encoding="utf-8")
    _write_tickets(folder / "runs" / "tickets")
    (folder / "runs" / "tiny" / "checkpoint_24").rename(folder / "runs" / "tiny" / "checkpoint_1000")
    header, _, rows = TICKETS.partition("\n")
    (folder / "tickets.csv").write_text(f"{header}\n{rows * 20}", encoding="utf-8")
    return folder


def _write_tickets(run):
    """A student with choices whom no rounding makes undecided, as one of a few steps is, and validation texts beside it."""
    run.mkdir()
    write_student(run, description_of())
    (run / "predictions").mkdir()
    rows = [
        {"choices": CHOICES},
        *({"inputs": f"{word} {n} apples"} for n in range(4) for word in ("no", "many")),
    ]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (run / "predictions" / "choices-validation-7.jsonl").write_text(lines)


@pytest.fixture
def there(workplace, monkeypatch):
    monkeypatch.chdir(workplace)
    monkeypatch.delenv("STEPDISTILL_DATA_DIR", raising=False)


def examples_of(command, capsys):
    """The commands that --help shows, without what is said of them."""
    with pytest.raises(SystemExit):
        cli.main([*command.split(), "--help"])
    page = capsys.readouterr().out.partition("examples:\n")[2]
    return re.findall(r"^  (stepdistill .*?)(?:\s{2,}#.*)?$", page, re.MULTILINE)


def test_every_command_is_here():
    assert {*cli._COMMANDS, *cli._OF_TWO_WORDS} == {*EXAMPLES, *SERVERS, *LONG}


@pytest.mark.parametrize(
    "command", [*EXAMPLES, *(pytest.param(name, marks=pytest.mark.slow) for name in LONG)]
)
def test_an_example_of_help_runs(command, there, compiled_once, capsys):
    if command == "export" and importlib.util.find_spec("ctranslate2") is None:
        pytest.skip("ctranslate2 is not installed; pip install '.[ctranslate2]'")
    example = {**EXAMPLES, **LONG}[command]
    assert example in examples_of(command, capsys)
    status = cli.main(shlex.split(example)[1:])
    said = capsys.readouterr()
    assert status == 0, said.err
    assert said.out or "accuracy" in said.err  # which `eval` says beside its progress


@pytest.mark.slow
@pytest.mark.parametrize("command", SERVERS)
def test_a_server_of_help_serves_until_it_is_stopped(command, there, capsys):
    if command == "teach serve" and importlib.util.find_spec("xllamacpp") is None:
        pytest.skip("the embedded model is not installed; pip install xllamacpp")
    assert SERVERS[command] in examples_of(command, capsys)
    words = shlex.split(SERVERS[command])
    port = int(words[words.index("--port") + 1])
    with contextlib.closing(socket.socket()) as probe:
        if probe.connect_ex(("127.0.0.1", port)) == 0:
            pytest.skip(f"port {port} is in use")
    server = subprocess.Popen(
        [sys.executable, "-m", "stepdistill_jax", *words[1:]],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    said = []
    for line in server.stdout:
        said.append(line)
        if f":{port}" in line and ("ready" in line or "/v1" in line):
            break
    server.send_signal(signal.SIGTERM)
    rest = server.communicate(timeout=120)[0]
    assert server.returncode in (0, 128 + signal.SIGTERM), "".join(said) + rest
    assert any(f":{port}" in line for line in said)
