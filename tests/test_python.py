"""The names that Python's users have: loaded when they are asked for."""

import subprocess
import sys
from pathlib import Path

import pytest

import stepdistill_jax
from stepdistill_jax import teacher
from stepdistill_jax.launching import task_modules

ROOT = Path(__file__).resolve().parents[1]
NAMES = ["Prediction", "Predictor", "evaluate", "prepare", "teach", "train"]


def test_an_import_loads_nothing_and_names_everything():
    script = (
        "import sys, stepdistill_jax; "
        "print(dir(stepdistill_jax), [name for name in ('jax', 'numpy', 'gin', 'seqio', 'tensorflow') if name in sys.modules])"
    )
    shown = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert shown == f"{[*NAMES[:2], '__version__', *NAMES[2:]]} []\n"


@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_there_and_documented(name):
    value = getattr(stepdistill_jax, name)
    assert value.__name__ == name
    assert len(value.__doc__) > 80
    assert f"{name}(" in (ROOT / "docs" / "python.md").read_text() or name == "Prediction"


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'predict'"):
        stepdistill_jax.predict  # noqa: B018


@pytest.fixture
def asked(monkeypatch):
    """What `teacher.teach` is called with."""
    calls = []
    monkeypatch.setattr(task_modules, "load_tasks", lambda data_dir=None: None)
    monkeypatch.setattr(
        "stepdistill_jax.teacher.job.teach", lambda name, **settings: calls.append((name, settings))
    )
    return calls


def test_teach_hands_each_setting_to_what_it_is_of(asked):
    stepdistill_jax.teach(
        "tickets", teacher="openai:m", base_url="http://localhost", shots=3, concurrency=4, first=20
    )
    [(name, settings)] = asked
    assert (name, settings["teacher"]) == ("tickets", "openai:m")
    assert settings["model_settings"] == teacher.ModelSettings(base_url="http://localhost", concurrency=4)
    assert settings["prompting"] == teacher.PromptSettings(shots=3)
    assert settings["job_settings"] == teacher.JobSettings(concurrency=4, first=20)


def test_teach_names_a_setting_that_there_is_not(asked):
    with pytest.raises(TypeError, match="teach: no setting 'base_ulr'; nearest 'base_url'"):
        stepdistill_jax.teach("tickets", teacher="openai:m", base_ulr="http://localhost")
    assert asked == []


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: stepdistill_jax.train("tickets", step=3), "train: no setting 'step'; nearest 'steps'"),
        (lambda: stepdistill_jax.Predictor("runs/tickets", verfy=False), "Predictor.*unexpected.*'verfy'"),
    ],
)
def test_a_setting_that_there_is_not_is_named_with_what_was_called(call, said):
    with pytest.raises(TypeError, match=said):
        call()
