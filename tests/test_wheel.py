"""The wheel holds everything, takes no name but its own, and works from an empty folder, without the clone."""

import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[1]
RIDDLES = """from stepdistill_jax import datasets

datasets.register(
    datasets.Dataset(
        name="{name}",
        to_example=lambda row: datasets.Fields(row["riddle"], row["solution"]),
        files={{"train": ["train.jsonl"]}},
        embedded=True,
    )
)
"""
WHAT_IS_KNOWN = """
from stepdistill_jax import datasets
from stepdistill_jax.launching import task_modules

task_modules.load_tasks()
import tasks

print(tasks.__file__, *datasets.names())
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy of the sources, as building leaves files among them."""
    for module in ("pip", "setuptools"):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"no {module} in this environment")
    copy, built = tmp_path_factory.mktemp("sources") / "clone", tmp_path_factory.mktemp("built")
    copy.mkdir()
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    for name in ("stepdistill_jax", "tasks", "gin", "experiments"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run(
        [*command, "--wheel-dir", str(built), str(copy)], cwd=built, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    (file,) = built.glob("*.whl")
    return file


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """A folder with what the wheel holds, as pip lays it out."""
    target = tmp_path_factory.mktemp("site")
    zipfile.ZipFile(wheel).extractall(target)
    return target


@pytest.fixture
def run_installed(installed, tmp_path):
    """run_installed(*arguments, **environment): Python in an empty folder, with the wheel and no clone; what it printed."""
    installed_packages = dict.fromkeys(sysconfig.get_paths()[name] for name in ("purelib", "platlib"))
    kept = ("STEPDISTILL_", "XLA_FLAGS", "PYTHONPATH")

    def run(*arguments, status=0, **environment):
        done = subprocess.run(
            # Without `site`, no editable install of a clone joins in.
            [sys.executable, "-S", *arguments],
            cwd=tmp_path,
            env={
                **{name: value for name, value in os.environ.items() if not name.startswith(kept)},
                "PYTHONPATH": os.pathsep.join([str(installed), *installed_packages]),
                **environment,
            },
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == status, done.stderr[-3000:]
        return done.stdout if status == 0 else done.stderr.splitlines()[-1]

    return run


def test_the_wheel_holds_every_file_of_the_package_and_of_the_three_folders(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    package = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "stepdistill_jax").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    folders = {
        f"stepdistill_jax/{path.relative_to(ROOT).as_posix()}"
        for folder in ("gin", "experiments", "tasks")
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert len(folders) > 100
    of_the_build = {name for name in names if ".dist-info/" in name}
    assert names - of_the_build == package | folders


def test_the_wheel_takes_no_top_level_name_but_its_own(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert sorted(tops - {top for top in tops if top.endswith(".dist-info")}) == ["stepdistill_jax"]
    (top_level,) = [name for name in names if name.endswith("/top_level.txt")]
    assert zipfile.ZipFile(wheel).read(top_level).decode().split() == ["stepdistill_jax"]


def test_the_command_runs_as_a_module(run_installed, installed):
    where = run_installed("-c", "import stepdistill_jax; print(stepdistill_jax.__file__)")
    assert Path(where.strip()).is_relative_to(installed)
    assert "precompile" in run_installed("-m", "stepdistill_jax", "--help")


def test_data_are_prepared_and_a_step_is_compiled(run_installed, tmp_path):
    printed = run_installed("-m", "stepdistill_jax", "prepare", "wordproblems")
    assert "6,000 train / 300 validation / 500 test examples" in printed
    assert (tmp_path / "data" / "wordproblems" / "examples" / "manifest.json").exists()
    printed = run_installed("-m", "stepdistill_jax", "precompile", "gin/dsbs_t5_tiny.gin", "--topology=cpu:8")
    assert "cpu:8: 8 x CPU, mesh data 8 x model 1" in printed


def test_a_sweep_finds_the_packages_experiment_files(run_installed):
    printed = run_installed(
        "-m", "stepdistill_jax", "sweep", "experiments/small/table2.toml", "--print"
    ).splitlines()
    assert printed
    assert all("experiments/small/table2.toml --only wordproblems-" in line for line in printed)


def test_gin_s_import_tasks_gives_ours(run_installed, installed):
    file, *names = run_installed("-c", WHAT_IS_KNOWN).split()
    assert Path(file) == installed / "stepdistill_jax" / "tasks" / "__init__.py"
    assert names == ["anli", "asdiv", "cqa", "esnli", "svamp", "wordproblems"]


def test_the_users_own_package_tasks_is_known_besides_ours(run_installed, tmp_path):
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "__init__.py").write_text(RIDDLES.format(name="riddles"), encoding="utf-8")
    file, *names = run_installed("-c", WHAT_IS_KNOWN, STEPDISTILL_TASKS="tasks").split()
    assert Path(file) == tmp_path / "tasks" / "__init__.py"
    assert names == ["anli", "asdiv", "cqa", "esnli", "riddles", "svamp", "wordproblems"]


def test_a_package_tasks_that_registers_ours_again_is_refused_in_one_line(run_installed, tmp_path):
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "__init__.py").write_text(RIDDLES.format(name="svamp"), encoding="utf-8")
    line = run_installed(
        "-m", "stepdistill_jax", "train", "--gin_file=gin/dsbs_t5_tiny.gin", "--gin.MODEL_DIR='run'", "--dry_run",
        status=2,
    )  # fmt: skip
    assert line.startswith("stepdistill: error: ")
    assert "'svamp' is registered already, by stepdistill_jax.tasks.svamp" in line
