"""Our gin files and tasks under T5X's own train.py, unchanged.

Runs where T5X can be imported: $T5X_SOURCE names its source tree (and those of its git dependencies, after colons),
$T5X_PYTHON a Python with its packages, e.g.

    T5X_SOURCE=SRC/t5x:SRC/airio:SRC/jestimator T5X_PYTHON=VENV/bin/python pytest tests/end_to_end/test_under_t5x.py
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
PYTHON = os.environ.get("T5X_PYTHON", sys.executable)


@pytest.fixture(scope="module")
def run_t5x(data_dir):
    """run_t5x(script, *flags): T5X's own script, to its end; returns what it logged."""
    source = os.environ.get("T5X_SOURCE")
    if not source:
        pytest.skip("set T5X_SOURCE and T5X_PYTHON to run our gin files under T5X itself")
    environment = {
        **{name: value for name, value in os.environ.items() if name != "XLA_FLAGS"},
        "PYTHONPATH": os.pathsep.join([source, str(ROOT)]),
        "STEPDISTILL_DATA_DIR": str(data_dir),
    }
    code = "import importlib.util, t5x.train; print(t5x.train.__file__)"
    found = subprocess.run([PYTHON, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    if found.returncode:
        pytest.skip(f"T5X cannot be imported by {PYTHON}: {found.stderr.strip().splitlines()[-1]}")

    def run(script, *flags):
        done = subprocess.run(
            [PYTHON, "-m", f"t5x.{script}", *flags],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=500,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stderr

    return run


def test_the_tiny_run_trains_and_evaluates_under_t5x(run_t5x, tmp_path, shrunk):
    bindings = [
        *shrunk,
        f"MODEL_DIR = '{tmp_path}/run'",
        "TRAIN_STEPS = 4",
        "EVAL_PERIOD = 4",
        "CHECKPOINT_PERIOD = 4",
    ]
    log = run_t5x(
        "train", "--gin_file=gin/dsbs_t5_tiny.gin", *(f"--gin_bindings={binding}" for binding in bindings)
    )
    (line,) = re.findall(r"\[4\] collection=train (label_accuracy.*)", log)
    values = dict(re.findall(r"(\w+)=([\d.]+)", line))
    # Eq. 3 with λ = 1, the z-loss on top.
    assert float(values["loss"]) == pytest.approx(
        float(values["label_loss"]) + float(values["rationale_loss"]), rel=0.01
    )
    assert "collection=training_eval/wordproblems_label" in log
    assert (tmp_path / "run" / "checkpoint_4").is_dir()
    assert list((tmp_path / "run" / "inference_eval").rglob("events.*"))


@pytest.mark.parametrize("method", ["rationale_then_label", "rationale_as_input"])
def test_other_methods_and_a_share_of_the_data_run_under_t5x(run_t5x, tmp_path, shrunk, method):
    bindings = [
        *shrunk,
        f"MODEL_DIR = '{tmp_path}/run'",
        f"MIXTURE_OR_TASK_NAME = 'wordproblems_{method}'",
        "TASK_FEATURE_LENGTHS = {'inputs': 96, 'targets': 96}",
        "TRAIN_SHARE = 0.5",
        "PREFIXES = 'code'",
        "TRAIN_STEPS = 2",
        "EVAL_PERIOD = 2",
        "CHECKPOINT_PERIOD = 2",
    ]
    log = run_t5x(
        "train", "--gin_file=gin/dsbs_t5_tiny.gin", *(f"--gin_bindings={binding}" for binding in bindings)
    )
    assert re.search(rf"collection=inference_eval/wordproblems_{method}|wordproblems_{method}.*accuracy", log)
    assert "train_share = %TRAIN_SHARE" in (tmp_path / "run" / "config.gin").read_text(encoding="utf-8")
