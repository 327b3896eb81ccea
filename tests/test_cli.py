"""The command line: help that is quick and shows examples, and wrong calls that end in one line."""

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from stepdistill_jax import cli
from stepdistill_jax.engine.config import gin_flags
from stepdistill_jax.launching import runs

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = (
    "prepare", "teach", "train", "eval", "infer", "predict", "precompile", "sweep", "report", "convert", "demo"
)  # fmt: skip
HELP_OF_ALL = """
import contextlib, io, json, sys
from stepdistill_jax import cli

pages = {}
for command in sys.argv[1:]:
    page = io.StringIO()
    with contextlib.redirect_stdout(page), contextlib.suppress(SystemExit):
        cli.main(["--help"] if command == "all" else [command, "--help"])
    pages[command] = page.getvalue()
heavy = ("jax", "flax", "tensorflow", "tensorflow_datasets", "seqio", "gin", "orbax", "numpy", "matplotlib")
print(json.dumps({"pages": pages, "loaded": [name for name in heavy if name in sys.modules]}))
"""


@pytest.fixture(scope="module")
def help_of_all():
    done = subprocess.run(
        [sys.executable, "-c", HELP_OF_ALL, "all", *COMMANDS],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def test_help_loads_nothing_heavy(help_of_all):
    assert help_of_all["loaded"] == []


def test_help_lists_every_command(help_of_all):
    for command in COMMANDS:
        assert re.search(rf"^    {command}\s+[a-z]", help_of_all["pages"]["all"], re.MULTILINE)


def test_help_imports_no_stage():
    code = "import sys; from stepdistill_jax import cli; cli.parser_of('').format_help(); print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    ours = {name for name in done.stdout.split() if name.startswith("stepdistill_jax.")}
    assert {".".join(name.split(".")[:2]) for name in ours} == {
        f"stepdistill_jax.{room}" for room in ("base", "cli", "engine")
    }
    assert "stepdistill_jax.engine.cluster" not in ours


def test_the_module_runs_as_the_command():
    done = subprocess.run(
        [sys.executable, "-m", "stepdistill_jax", "trian"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("stepdistill: error: argument COMMAND: invalid choice: 'trian'")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_shows_examples(help_of_all, command):
    page = help_of_all["pages"][command]
    assert "examples:\n" in page
    assert f"  stepdistill {command}" in page.split("examples:\n")[1]


def test_the_files_that_examples_name_are_there(help_of_all):
    named = re.findall(r"(?:gin|experiments)/[\w/]+\.(?:gin|toml)", " ".join(help_of_all["pages"].values()))
    assert len(set(named)) > 4
    assert [name for name in named if not (ROOT / name).is_file()] == []


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["trian"], "invalid choice: 'trian'"),
        (["train", "--gin_fil"], "--gin_fil"),
        (["train", "--nonsense=1"], "unrecognized arguments: --nonsense=1"),
        (["eval"], "the following arguments are required: RUN"),
        (["infer", "run", "--mode", "guess"], "invalid choice: 'guess'"),
        (["eval", "run", "--step", "last"], "invalid int value: 'last'"),
    ],
)
def test_a_wrong_call_is_one_line_and_status_2(capsys, arguments, part):
    with pytest.raises(SystemExit) as end:
        cli.main(arguments)
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("stepdistill")
    assert part in line
    assert "--help" in line


@pytest.mark.parametrize("argument", ["--gin.MODEL_DIR", "--gin.MODEL_DIR=", "--gin.=3"])
def test_a_gin_flag_without_a_value_is_one_line(capsys, argument):
    assert cli.main(["train", argument]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert argument in line
    assert "give a value" in line


def test_gin_flags_become_bindings():
    arguments = ["--gin_file=a.gin", "--gin.train.total_steps=5", "--gin.NAME='x=y'", "--dry_run"]
    assert gin_flags.rewrite_gin_args(arguments) == [
        "--gin_file=a.gin",
        "--gin_bindings=train.total_steps = 5",
        "--gin_bindings=NAME = 'x=y'",
        "--dry_run",
    ]


@pytest.mark.parametrize(
    "arguments",
    [
        ["RUN", "one", "two"],
        ["RUN", "--rationale", "one", "two"],
        ["--step=4", "RUN", "one", "--rationale", "two"],
    ],
    ids=" ".join,
)
def test_predict_takes_texts_wherever_its_flags_stand(monkeypatch, capsys, arguments):
    monkeypatch.setattr(runs, "predict", lambda run, texts, *, rationale, **options: [*texts, str(rationale)])
    assert cli.main(["predict", *arguments]) == 0
    assert capsys.readouterr().out.splitlines() == ["one", "two", str("--rationale" in arguments)]


def test_predict_reads_lines_where_no_text_is_given_and_keeps_blank_ones(monkeypatch, capsys):
    monkeypatch.setattr(runs, "predict", lambda run, texts, **options: texts)
    monkeypatch.setattr(sys, "stdin", io.StringIO("one\n\ntwo\n"))
    assert cli.main(["predict", "RUN"]) == 0
    assert capsys.readouterr().out.splitlines() == ["one", "", "two"]


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_predict_reads_lines_of_any_system_as_utf_8(monkeypatch, capsys, encoding):
    def told(content):
        monkeypatch.setattr(
            sys, "stdin", io.TextIOWrapper(io.BytesIO(content), encoding=encoding, newline="\n")
        )
        status = cli.main(["predict", "RUN"])
        return status, capsys.readouterr()

    seen = []
    monkeypatch.setattr(runs, "predict", lambda run, texts, **options: seen.extend(texts) or texts)
    assert told("\ufeffGröße\r\n\r\nx\u2028y\n\ufeffz".encode())[0] == 0
    assert seen == ["Größe", "", "x\u2028y", "\ufeffz"]
    status, said = told("one\nGröße\n".encode("cp1252"))
    assert status == 2
    assert "predict: line 2 of standard input is not UTF-8: 'Gr" in said.err


@pytest.fixture
def read_by_precompile(monkeypatch):
    """read_by_precompile(*arguments): the gin files that the launcher is given."""
    from stepdistill_jax.launching import launch

    calls = []
    monkeypatch.setattr(launch, "run_script", lambda script, args: calls.append((script, args.gin_file)))

    def read(*arguments):
        assert cli.main(["precompile", *arguments]) == 0
        script, files = calls.pop()
        assert script == "precompile"
        return files

    return read


def test_precompile_takes_runs_and_gin_files_wherever_its_flags_stand(read_by_precompile, tmp_path):
    (tmp_path / "config.gin").write_text("")
    run, config = str(tmp_path), str(tmp_path / "config.gin")
    assert read_by_precompile("--gin_file=c.gin", run, "--topology=cpu:8", "b.gin") == [
        config,
        "b.gin",
        "c.gin",
    ]
    assert read_by_precompile("--gin_file=c.gin") == ["c.gin"]


def test_precompile_says_that_a_folder_is_no_run(tmp_path, capsys):
    assert cli.main(["precompile", str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{tmp_path} is not a run's folder" in line


def test_a_dry_run_prints_the_configuration_and_trains_nothing(capsys, tmp_path):
    folder = tmp_path / "run"
    flags = ["--gin_file=gin/dsbs_t5_tiny.gin", f"--gin.MODEL_DIR='{folder}'", "--dry_run"]
    assert cli.main(["train", *flags]) == 0
    printed = capsys.readouterr().out
    assert f"MODEL_DIR = '{folder}'" in printed.replace("\\\n    ", "")  # gin breaks a long line
    assert "network.T5Config.emb_dim = 128" in printed
    assert not folder.exists()


def test_the_callers_own_train_function_is_left_alone(monkeypatch, capsys):
    def own():
        raise AssertionError("the caller's own function was called")

    monkeypatch.setattr(sys.modules["__main__"], "train", own, raising=False)
    assert cli.main(["train", "--gin_file=gin/dsbs_t5_tiny.gin", "--gin.MODEL_DIR='x'", "--dry_run"]) == 0
    assert sys.modules["__main__"].train is own
    assert "total_steps" in capsys.readouterr().out


@pytest.fixture
def failing_run(monkeypatch):
    def fail(argv):
        raise RuntimeError("out of\nmemory")

    monkeypatch.setattr(cli, "_run", fail)


def test_an_error_that_nobody_foresaw_is_one_line_and_status_1(failing_run, capsys):
    assert cli.main(["predict"]) == 1
    assert capsys.readouterr().err == (
        "stepdistill: error: RuntimeError: out of memory (STEPDISTILL_DEBUG=1 shows where)\n"
    )


def test_it_is_shown_whole_where_that_is_asked_for(failing_run, monkeypatch):
    monkeypatch.setenv("STEPDISTILL_DEBUG", "1")
    with pytest.raises(RuntimeError):
        cli.main(["predict"])


QUIET = """
from stepdistill_jax import datasets, interop, report, teacher
datasets.register(datasets.Dataset("riddles", lambda row: datasets.Fields("a", "b"), rows=lambda split: [{}]))
datasets.prepare("riddles", data_dir=DATA)
assert datasets.read_examples("riddles", "train", data_dir=DATA)[0].label == "b"
"""


def test_a_program_of_ones_own_sees_nothing_of_tensorflow(tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    script = f"DATA = {str(tmp_path)!r}\n{QUIET}"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_reader_that_has_enough_is_no_error():
    code = "import sys; from stepdistill_jax import cli; sys.exit(cli.main(['sweep', '--list']))"
    head = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )  # fmt: skip
    head.stdout.close()  # before anything is printed
    assert (head.wait(timeout=60), head.stderr.read()) == (141, b"")


def test_an_output_that_cannot_hold_a_character_is_told_with_what_to_set(monkeypatch, capsys):
    monkeypatch.setattr(runs, "predict", lambda *_, **__: ["über 5 →"])
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="latin-1"))
    assert cli.main(["predict", "RUN", "a"]) == 2
    told = capsys.readouterr().err
    assert told == (
        "stepdistill: error: standard output is latin-1, which has no '\\u2192'; set PYTHONIOENCODING=utf-8, or a UTF-8 locale.\n"
    )
