"""T5X's train.py and ours on one gin file, one checkpoint and the same batches: the same losses, step by step.

Runs where T5X can be imported: $T5X_SOURCE names its source tree (and those of its git dependencies, after colons),
$T5X_PYTHON a Python with its packages, e.g.

    T5X_SOURCE=SRC/t5x:SRC/airio:SRC/jestimator T5X_PYTHON=VENV/bin/python \
        pytest -s tests/end_to_end/test_loss_curves_under_t5x.py
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from stepdistill_jax.launching import launch

pytestmark = pytest.mark.slow
HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PYTHON = os.environ.get("T5X_PYTHON", sys.executable)
EXAMPLE = "t5x/examples/t5/t5_1_1/examples/small_wmt_finetune.gin"  # of T5X
BEGUN, STEPS = 2, 14  # the checkpoint's step, and those that both engines go on with
TOLERANCE = 1e-4  # relative

# T5X's example, whose dropout is 0, on word problems; a small network of its kind, in float32.
FINETUNE = """
MIXTURE_OR_TASK_NAME = 'wordproblems_label'
TASK_FEATURE_LENGTHS = {'inputs': 96, 'targets': 16}
VOCABULARY = @datasets.embedded_vocabulary()
BATCH_SIZE = 8
network.T5Config:
  vocab_size = 1024
  dtype = 'float32'
  emb_dim = 32
  num_heads = 4
  num_encoder_layers = 2
  num_decoder_layers = 2
  head_dim = 8
  mlp_dim = 64
train/utils.DatasetConfig.pack = False
"""
# Our run; label and rationale of a problem take turns in the place of a mixture's draws.
STEP_BY_STEP = """
MIXTURE_OR_TASK_NAME = 'wordproblems_alternating'
TASK_FEATURE_LENGTHS = {'inputs': 96, 'targets': 64}
BATCH_SIZE = 8
WARMUP_STEPS = 10
DROPOUT_RATE = 0.0
PACK = False
"""
HEAD = """
from __gin__ import dynamic_registration

import __main__ as train_script
"""
IMPORTS = """
import alternating_task
from stepdistill_jax import datasets
from t5x import utils
from t5x.examples.t5 import network
"""
# Batches in the order of the data; every step's loss is kept; nothing is evaluated.
BOTH = f"""
train/utils.DatasetConfig.shuffle = False
train_script.train:
  train_eval_dataset_cfg = None
  infer_eval_dataset_cfg = None
  eval_period = {STEPS}
  stats_period = 1
  random_seed = 0
utils.SaveCheckpointConfig.period = {STEPS}
"""


@pytest.fixture(scope="module")
def t5x_environment(data_dir):
    """Environment variables with which $T5X_PYTHON finds T5X, our package, and the test's task."""
    source = os.environ.get("T5X_SOURCE")
    if not source:
        pytest.skip("set T5X_SOURCE and T5X_PYTHON to compare loss curves with T5X's own")
    environment = {
        **{name: value for name, value in os.environ.items() if name != "XLA_FLAGS"},
        "PYTHONPATH": os.pathsep.join([source, str(ROOT), str(HERE)]),
        "STEPDISTILL_DATA_DIR": str(data_dir),
    }
    code = "import t5x.train"
    found = subprocess.run([PYTHON, "-c", code], env=environment, capture_output=True, text=True, timeout=300)
    if found.returncode:
        pytest.skip(f"T5X cannot be imported by {PYTHON}: {found.stderr.strip().splitlines()[-1]}")
    return environment


@pytest.fixture
def curves(t5x_environment, data_dir, compiled_once, tmp_path):
    """curves(text): (T5X's losses, ours) of `STEPS` steps of a run's gin text, from a checkpoint of step `BEGUN`."""

    def bind(name, text, *bindings):
        file = tmp_path / f"{name}.gin"
        file.write_text("\n".join([text, f"MODEL_DIR = '{tmp_path / name}'", *bindings, ""]))
        return str(file)

    def run(text, from_scratch, from_checkpoint):
        begun = bind("begun", text, *from_scratch, f"TRAIN_STEPS = {BEGUN}")
        launch.call("train", [begun], [], data_dir=data_dir)
        start = tmp_path / f"begun/checkpoint_{BEGUN}"  # T5X's Orbax layout
        bindings = [line.format(start=start) for line in from_checkpoint]
        launch.call("train", [bind("ours", text, *bindings)], [], data_dir=data_dir)
        done = subprocess.run(
            [PYTHON, "-m", "t5x.train", f"--gin_file={bind('theirs', text, *bindings)}"],
            cwd=ROOT,
            env=t5x_environment,
            capture_output=True,
            text=True,
            timeout=500,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return tensorboard_losses(tmp_path / "theirs"), logged_losses(tmp_path / "ours")

    return run


def tensorboard_losses(model_dir):
    """{step: loss} of a run of T5X."""
    (file,) = (model_dir / "train").glob("events.*")
    return {
        event.step: float(tf.make_ndarray(value.tensor))
        for event in tf.compat.v1.train.summary_iterator(str(file))
        for value in event.summary.value
        if value.tag == "loss"
    }


def logged_losses(model_dir):
    """{step: loss} of a run of ours."""
    lines = map(json.loads, (model_dir / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    return {line["step"]: line["loss"] for line in lines if line["split"] == "train"}


def assert_same(curves):
    theirs, ours = curves
    steps = list(range(BEGUN + 1, BEGUN + STEPS + 1))
    assert sorted(theirs) == sorted(ours) == steps
    theirs, ours = (np.array([losses[step] for step in steps]) for losses in curves)
    differences = np.abs(ours / theirs - 1)
    print(f"{len(steps)} steps, {theirs[0]:.6g} to {theirs[-1]:.6g}: at most {differences.max():.1e} apart")
    assert np.unique(theirs).size == len(steps)  # they learn, and from other batches each time
    assert differences.max() <= TOLERANCE


def test_an_example_of_t5x_fine_tunes_alike(curves):
    sources = [Path(folder) / EXAMPLE for folder in os.environ.get("T5X_SOURCE", "").split(os.pathsep)]
    (example,) = filter(Path.is_file, sources)
    lines = example.read_text().splitlines()
    # The package of its translation tasks is not installed, and is not needed for others.
    text = "\n".join(line for line in lines if line != "from t5.data import mixtures")
    assert_same(
        curves(
            text + IMPORTS + FINETUNE + BOTH,
            ["utils.CheckpointConfig.restore = None"],
            [f"TRAIN_STEPS = {BEGUN + STEPS}", "INITIAL_CHECKPOINT_PATH = '{start}'"],
        )
    )


def test_our_step_by_step_run_trains_alike(curves):
    assert_same(
        curves(
            HEAD + IMPORTS + "include 'gin/dsbs_t5_tiny.gin'\n" + STEP_BY_STEP + BOTH,
            [],
            [
                f"TRAIN_STEPS = {STEPS}",
                "RESTORE = @utils.RestoreCheckpointConfig()",
                "utils.RestoreCheckpointConfig.path = '{start}'",
                "utils.RestoreCheckpointConfig.mode = 'specific'",
                "utils.RestoreCheckpointConfig.dtype = 'float32'",
            ],
        )
    )
