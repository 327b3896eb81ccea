"""A student that begins with a Hugging Face folder, is trained, and goes back into one."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from stepdistill_jax.datasets.wordproblems import VOCABULARY_PATH
from stepdistill_jax.interop import convert_from_huggingface, convert_to_huggingface

ROOT = Path(__file__).resolve().parents[2]
RUN = """\
from __gin__ import dynamic_registration
from t5x import utils

include 'gin/dsbs_t5_tiny.gin'
include '{network}'

RESTORE = @utils.RestoreCheckpointConfig()
utils.RestoreCheckpointConfig:
  path = '{checkpoint}'
  mode = 'specific'
  dtype = 'float32'
STEP_OFFSET = {step}
"""
SHORT_RUN = ("TRAIN_STEPS = 3", "WARMUP_STEPS = 3", "CHECKPOINT_PERIOD = 1000", "EVAL_PERIOD = 1000")


@pytest.fixture(scope="module")
def huggingface_folder(tmp_path_factory):
    """A T5 v1.1 with the word problems' vocabulary, in tensors of a trained model's size."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "tests" / "interop"))
        from huggingface_folders import config_of, tensors_of, write_folder

        sizes = {
            "d_model": 16,
            "d_kv": 8,
            "d_ff": 16,
            "num_heads": 2,
            "num_layers": 1,
            "num_decoder_layers": 1,
        }
        config = config_of("t5_1_1", vocab_size=1024, **sizes)
        small = {
            name: tensor if "norm" in name else tensor / 4 for name, tensor in tensors_of(config).items()
        }
        folder = write_folder(tmp_path_factory.mktemp("huggingface") / "hf", config, small)
    (folder / "spiece.model").write_bytes(VOCABULARY_PATH.read_bytes())
    return folder


@pytest.mark.slow
def test_a_student_from_hugging_face_trains_and_goes_back(huggingface_folder, train, tmp_path):
    begun = convert_from_huggingface(huggingface_folder, tmp_path / "begun")
    gin_file, run = tmp_path / "run.gin", tmp_path / "run"
    gin_file.write_text(RUN.format(network=begun.gin_file, checkpoint=begun.checkpoint, step=begun.step))
    train(run, *SHORT_RUN, gin_file=gin_file)
    convert_to_huggingface(run / f"checkpoint_{begun.step + 3}", tmp_path / "back")
    before = load_file(huggingface_folder / "model.safetensors")
    after = load_file(tmp_path / "back" / "model.safetensors")
    assert {name: tensor.shape for name, tensor in after.items()} == {
        name: tensor.shape for name, tensor in before.items()
    }
    moved = [np.abs(after[name] - before[name]).max() for name in before]
    assert min(moved) > 0  # every tensor was trained,
    assert max(moved) < 0.1  # a little, from where it began
    assert (tmp_path / "back" / "spiece.model").read_bytes() == VOCABULARY_PATH.read_bytes()
