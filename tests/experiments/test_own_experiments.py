"""Experiment files are found in the folder one works in, then among those that come with the package."""

from pathlib import Path

import pytest

from stepdistill_jax import cli
from stepdistill_jax.experiments import own_experiments

ROOT = Path(__file__).resolve().parents[2]
FILE = Path("experiments/small/table2.toml")


def test_a_file_is_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert own_experiments.find_file(FILE) == ROOT / FILE


def test_a_file_of_the_folder_one_works_in_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    FILE.parent.mkdir(parents=True)
    FILE.write_text("")
    assert own_experiments.find_file(FILE).resolve() == tmp_path / FILE


def test_a_file_that_there_is_not_is_told_the_nearest():
    with pytest.raises(FileNotFoundError, match=r"tabel2\.toml; nearest 'experiments/small/table2\.toml'"):
        own_experiments.find_file(Path("experiments/small/tabel2.toml"))


def test_sweep_lists_every_file_with_its_title(capsys):
    assert cli.main(["sweep", "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(list((ROOT / "experiments").glob("*/*.toml")))
    assert any(line.split(maxsplit=1)[1].startswith("Table 2, small") for line in lines)


@pytest.mark.parametrize("flags", [[], ["--check"], ["--print"], ["--only", "a"]], ids=" ".join)
def test_sweep_without_a_file_is_one_line_that_says_where_they_are(capsys, flags):
    assert cli.main(["sweep", *flags]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "experiments/small/table2.toml" in line
    assert "stepdistill sweep --list" in line


def test_the_printed_commands_name_the_file_as_it_was_typed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["sweep", str(FILE), "--print"]) == 0
    for line in capsys.readouterr().out.splitlines():
        assert line.startswith("stepdistill sweep experiments/small/table2.toml --only ")
        assert line.endswith("--output runs/small_table2")
