"""The experiment files of the repository: they are read, and every student of theirs is built, without data or weights."""

import shlex
from pathlib import Path

import pytest

from stepdistill_jax import cli
from stepdistill_jax.experiments import checking
from stepdistill_jax.experiments.experiment_file import read_experiment
from stepdistill_jax.experiments.planned_run import planned_runs

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "experiments").glob("*/*.toml"))
LONG = ("figure6", "figure8", "figure9")  # many students, the largest among them
PAPER = {"figure4", "figure5", "figure6", "figure7", "figure8", "figure9", "table1", "table2"}


def test_every_figure_and_table_has_a_file_and_a_small_one_of_its_shape():
    assert {path.stem for path in FILES if path.parent.name == "paper"} == PAPER
    assert {path.stem for path in FILES if path.parent.name == "small"} == {
        *PAPER,
        "every_method",
        "rationales",
        "real_data",
        "where_it_helps",
    }
    assert {path.stem for path in FILES if path.parent.name == "pretrained"} == {
        "svamp",
        "svamp_quarter",
        "real_data",
    }


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(p, marks=[pytest.mark.slow] * (p.stem in LONG), id=f"{p.parent.name}/{p.stem}")
        for p in FILES
    ],
)
def test_every_gin_file_is_read_and_every_student_is_built(path):
    lines = list(checking.check(read_experiment(path)))
    assert any("M parameters" in line for line in lines)


@pytest.mark.parametrize("name", sorted(PAPER))
def test_the_paper_s_settings(name):
    """Hsieh et al. 2023, appendix A: four seeds; 5e-5; 64 examples and 10,000 steps, 32 and 4,000 for 11 B."""
    runs = [
        run
        for run in planned_runs(read_experiment(ROOT / "experiments" / "paper" / f"{name}.toml"))
        if run.student
    ]
    assert {run.dataset for run in runs} == {"esnli", "anli", "cqa", "svamp"}
    assert {run.seed for run in runs} == {0, 1, 2, 3}
    for run in runs:
        examples, steps = (32, 4000) if run.student.name == "xxl" else (64, 10_000)
        assert {
            "BASE_LEARNING_RATE = 5e-05",
            f"TRAIN_STEPS = {steps}",
            f"BATCH_SIZE = {examples * run.method.num_tasks}",
            "PACK = False",
        } < set(run.gin_bindings())


def test_the_commands_of_table_2_are_printed_one_a_run(capsys):
    file = ROOT / "experiments" / "paper" / "table2.toml"
    assert cli.main(["sweep", str(file), "--print", "--output", "runs/a folder"]) == 0
    commands = [shlex.split(line) for line in capsys.readouterr().out.splitlines()]
    assert len(commands) == 3 * 4 * 4  # methods, datasets, seeds
    runs = [run.run_id for run in planned_runs(read_experiment(file))]
    assert [command[:3] for command in commands] == [["stepdistill", "sweep", str(file)]] * 48
    assert [command[3:] for command in commands] == [
        ["--only", name, "--output", "runs/a folder"] for name in runs
    ]


def test_a_check_names_the_run_that_is_wrong(tmp_path):
    path = tmp_path / "wrong.toml"
    text = (ROOT / "experiments" / "small" / "table2.toml").read_text(encoding="utf-8")
    path.write_text(
        text.replace("seeds", 'gin = ["network.T5Config.emb_dims = 3"]\nseeds', 1), encoding="utf-8"
    )
    with pytest.raises(ValueError, match=r"wrong\.toml: wordproblems-.*emb_dims"):
        list(checking.check(read_experiment(path)))
