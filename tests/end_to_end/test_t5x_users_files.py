"""Gin files as T5X's users write them, run by our launchers: pretrain, fine-tune, evaluate, infer; and actions that stop a run."""

import json

import pytest

from stepdistill_jax.launching import launch

HEAD = """
from __gin__ import dynamic_registration

import __main__ as script
from stepdistill_jax import datasets
from t5x import models
from t5x import partitioning
from t5x import trainer
from t5x import utils

include "t5x/examples/t5/t5_1_1/tiny.gin"
include "t5x/configs/runs/{run}.gin"

MIXTURE_OR_TASK_NAME = "wordproblems_label"
TASK_FEATURE_LENGTHS = {{"inputs": 96, "targets": 16}}
VOCABULARY = @datasets.embedded_vocabulary()
DROPOUT_RATE = 0.0
partitioning.PjitPartitioner.num_partitions = 4
"""
TRAIN = """
USE_CACHED_TASKS = False
BATCH_SIZE = 8
LABEL_SMOOTHING = 0.1
LOSS_NORMALIZING_FACTOR = "AVERAGE_PER_SEQUENCE"
script.train:
  eval_period = 1
  eval_steps = 1
  random_seed = 0
  stats_period = 1
"""
PRETRAIN = (
    HEAD.format(run="pretrain")
    + TRAIN
    + """
TRAIN_STEPS = 1
script.train.actions = {"TRAIN_EVAL": [@trainer.TerminateOnNanAction()]}
trainer.TerminateOnNanAction.task = %MIXTURE_OR_TASK_NAME
"""
)
FINETUNE = (
    HEAD.format(run="finetune")
    + TRAIN
    + """
TRAIN_STEPS = 2  # one of pretraining, one of fine-tuning
EVALUATOR_NUM_EXAMPLES = 8
trainer.Trainer.num_microbatches = 2
models.EncoderDecoderModel.predict_batch_with_aux.num_decodes = 2
utils.create_learning_rate_scheduler.warmup_steps = 10
"""
)
SIZES = """
utils.DatasetConfig.batch_size = 8
"""


def read_lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, data_dir, compiled_once):
    """A folder with a pretrained and a fine-tuned run, and the fine-tuned one's evaluation and inference."""
    folder = tmp_path_factory.mktemp("t5x")
    texts = {
        "pretrain": PRETRAIN + f"MODEL_DIR = '{folder}/pretrained'\n",
        "finetune": FINETUNE
        + f"MODEL_DIR = '{folder}/finetuned'\nINITIAL_CHECKPOINT_PATH = '{folder}/pretrained/checkpoint_1'\n",
        "eval": HEAD.format(run="eval")
        + SIZES
        + f"CHECKPOINT_PATH = '{folder}/finetuned/checkpoint_2'\nEVAL_OUTPUT_DIR = '{folder}/evaluated'\n",
        "infer": HEAD.format(run="infer")
        + SIZES
        + f"CHECKPOINT_PATH = '{folder}/finetuned/checkpoint_2'\nINFER_OUTPUT_DIR = '{folder}/inferred'\n",
    }
    for run, text in texts.items():
        (folder / f"{run}.gin").write_text(text)
        launch.call(
            {"pretrain": "train", "finetune": "train"}.get(run, run),
            [str(folder / f"{run}.gin")],
            [],
            data_dir=data_dir,
        )
    return folder


@pytest.mark.slow
def test_fine_tuning_goes_on_from_the_pretrained_step(folder):
    pretrained = read_lines(folder / "pretrained" / "metrics.jsonl")
    finetuned = read_lines(folder / "finetuned" / "metrics.jsonl")
    assert [row["step"] for row in pretrained if row["split"] == "train"] == [1]
    assert [row["step"] for row in finetuned if row["split"] == "train"] == [2]
    # An average over sequences: the loss of one target's tokens, not of a whole batch.
    assert all(0 < row["loss"] < 20 for row in pretrained + finetuned if "loss" in row)
    assert (folder / "finetuned" / "checkpoint_2").is_dir()


@pytest.mark.slow
def test_evaluation_and_inference_of_the_fine_tuned_checkpoint(folder):
    (row,) = read_lines(folder / "evaluated" / "metrics.jsonl")
    assert (row["step"], row["split"], row["task"]) == (2, "test", "wordproblems_label")
    (file,) = (folder / "inferred").glob("wordproblems_label-predict.jsonl-00000-of-00001")
    lines = read_lines(file)
    assert all(set(line) == {"example_id", "inputs", "prediction"} for line in lines)
    assert all(line["inputs"]["inputs_pretokenized"].startswith("[label] ") for line in lines)


STOPPED = """
from __gin__ import dynamic_registration

import __main__ as train_script
from t5x import trainer

include 'gin/dsbs_t5_tiny.gin'

train_script.train:
  actions = {'TRAIN': [@trainer.EarlyStoppingAction()]}
  stats_period = 1
trainer.EarlyStoppingAction:
  metric = ('train', 'loss')
  mode = 'max'  # a loss that falls is no improvement
  patience = 3
  atol = 100.0
"""


def test_an_action_stops_a_run_and_the_step_is_saved(train, tmp_path):
    (tmp_path / "stopped.gin").write_text(STOPPED)
    train(tmp_path / "run", gin_file=tmp_path / "stopped.gin")
    steps = [row["step"] for row in read_lines(tmp_path / "run" / "metrics.jsonl") if row["split"] == "train"]
    assert steps == [1, 2, 3]
    assert (tmp_path / "run" / "checkpoint_3").is_dir()
