"""What a sweep's processes are given."""

import subprocess

import pytest

from stepdistill_jax.experiments import children


@pytest.mark.parametrize(
    ("jobs", "given", "expected"),
    [
        (1, {}, {}),
        (3, {}, {"XLA_CLIENT_MEM_FRACTION": "0.300"}),
        (3, {"XLA_CLIENT_MEM_FRACTION": "0.2"}, {"XLA_CLIENT_MEM_FRACTION": "0.2"}),
        (3, {"XLA_PYTHON_CLIENT_MEM_FRACTION": "0.2"}, {"XLA_PYTHON_CLIENT_MEM_FRACTION": "0.2"}),
    ],
)
def test_runs_side_by_side_share_a_gpu_s_memory(tmp_path, monkeypatch, jobs, given, expected):
    for name in children._MEMORY_SETTINGS:
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    started = []
    monkeypatch.setattr(subprocess, "Popen", lambda command, **options: started.append(options["env"]))
    children.start(["--version"], run_id="run", output=tmp_path, jobs=jobs)
    environment = started[0]
    assert {name: environment[name] for name in children._MEMORY_SETTINGS if name in environment} == expected
