"""A run of a tiny language model as the student: trained, gone on with, evaluated, asked, as a T5 is."""

import asyncio
import json
import shutil
import signal

import pytest
from killed_runs import checkpoints, num_train_rows, start_and_kill

NETWORK = """
from __gin__ import dynamic_registration

from stepdistill_jax import datasets
from stepdistill_jax.engine.model import llama
from stepdistill_jax.student import model as student
from t5x import decoding

include 'gin/student.gin'

MIXTURE_OR_TASK_NAME = 'wordproblems_step_by_step'
TASK_FEATURE_LENGTHS = {'inputs': 64, 'targets': 64}
VOCABULARY = @datasets.embedded_vocabulary()
BATCH_SIZE = 8
TRAIN_STEPS = 12
BASE_LEARNING_RATE = 0.01
WARMUP_STEPS = 2
DROPOUT_RATE = 0.0
EVAL_PERIOD = 6
CHECKPOINT_PERIOD = 4
NETWORK = @llama.Llama()
llama.Llama.config = @llama.LlamaConfig()
llama.LlamaConfig:
  vocab_size = 1024
  emb_dim = 16
  num_heads = 2
  num_kv_heads = 1
  num_layers = 1
  head_dim = 8
  mlp_dim = 16

MODEL = @student.StepByStepDecoderModel()
student.StepByStepDecoderModel:
  module = %NETWORK
  vocabulary = %VOCABULARY
  optimizer_def = %OPTIMIZER
  decode_fn = @decoding.temperature_sample
  z_loss = 0.0001
  rationale_weight = %RATIONALE_WEIGHT
"""

BINDINGS = (
    "train.eval_steps = 1",
    "infer_eval/utils.DatasetConfig.batch_size = 8",
    "seqio.Evaluator.num_examples = 8",
)


@pytest.fixture(scope="module")
def gin_file(tmp_path_factory):
    file = tmp_path_factory.mktemp("gin") / "decoder.gin"
    file.write_text(NETWORK)
    return file


@pytest.fixture(scope="module")
def train(gin_file, data_dir, compiled_once):
    """train(folder): trains the language model there."""
    from stepdistill_jax.launching import launch

    def run(folder):
        return launch.call(
            "train", [str(gin_file)], [f"MODEL_DIR = {str(folder)!r}", *BINDINGS], data_dir=data_dir
        )

    return run


@pytest.fixture(scope="module")
def run(train, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "decoder"
    train(folder)
    return folder


def rows_of(folder, name="metrics.jsonl"):
    return [json.loads(line) for line in (folder / name).read_text(encoding="utf-8").splitlines()]


def test_both_terms_of_the_loss_go_down(run):
    trained = [row for row in rows_of(run) if row["split"] == "train"]
    assert len(trained) == 12
    for name in ("label_loss", "rationale_loss"):
        assert trained[-1][name] < trained[0][name]
    assert {"padding_fraction"} == {name for name in trained[0] if "padding" in name}
    decoded = [row for row in rows_of(run) if "accuracy" in row]
    assert [row["step"] for row in decoded] == [6, 12]


def test_a_run_that_goes_on_ends_with_the_same_numbers(run, train, tmp_path):
    folder = shutil.copytree(run, tmp_path / "cut", ignore=shutil.ignore_patterns("checkpoint_12"))
    train(folder)
    assert (folder / "metrics.jsonl").read_bytes() == (run / "metrics.jsonl").read_bytes()


def test_a_killed_run_ends_with_the_same_numbers(run, train, gin_file, data_dir, tmp_path):
    folder = tmp_path / "killed"
    status = start_and_kill(folder, data_dir, BINDINGS, at_step=4, gin_file=gin_file)
    assert status == -signal.SIGKILL, folder.with_suffix(".log").read_text()[-2000:]
    assert 4 <= num_train_rows(folder) < 12
    assert max(checkpoints(folder)) < 12
    train(folder)
    assert (folder / "metrics.jsonl").read_bytes() == (run / "metrics.jsonl").read_bytes()


def test_evaluation_inference_and_prediction_say_the_same(run, data_dir):
    from stepdistill_jax.launching import runs

    [scored] = runs.evaluate(run, split="validation", data_dir=data_dir, task="wordproblems_label")
    assert scored["num_examples"] == 8
    [trained] = [row for row in rows_of(run) if "accuracy" in row and row["step"] == 12]
    assert scored["accuracy"] == trained["accuracy"]
    [file] = runs.infer(run, split="validation", data_dir=data_dir, task="wordproblems_label")
    inferred = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    evaluated = rows_of(run, "predictions/wordproblems_label-validation-12.jsonl")
    by_id = {line["example_id"]: line["prediction"] for line in inferred}
    for row in evaluated:
        assert by_id[row["example_id"]].strip() == row.get("decoded", row["prediction"]).strip()
    texts = [line["inputs"]["inputs_pretokenized"].removeprefix("[label] ") for line in inferred[:3]]
    predicted = runs.predict(run, texts, data_dir=data_dir)
    # It allows more tokens, and an answer of so little training hardly ever ends.
    beginnings = [line["prediction"].strip()[:8] for line in inferred[: len(texts)]]
    assert any(beginnings)
    for beginning, answer in zip(beginnings, predicted, strict=True):
        assert answer.startswith(beginning)


def test_its_step_is_compiled_for_devices_that_are_described(gin_file, tmp_path):
    import gin

    from stepdistill_jax.engine import precompile
    from stepdistill_jax.engine.hardware.topologies import parse_topology
    from stepdistill_jax.launching import launch

    launch.read_config([str(gin_file)], [f"MODEL_DIR = {str(tmp_path)!r}", "NUM_PARTITIONS = 2"])
    bound = precompile.bindings_of_train(gin)
    step = precompile.precompile(**bound, topology=parse_topology("cpu:8"))
    assert dict(step.mesh) == {"data": 4, "model": 2}
    assert step.batch["decoder_input_tokens"] == (8, 128)
    assert 0.5 * 4 * step.num_parameters <= step.parameter_bytes <= 0.6 * 4 * step.num_parameters


def test_a_run_is_a_teacher_that_continues_texts(run):
    from stepdistill_jax.teacher.answers.requests import Request, Sampling
    from stepdistill_jax.teacher.backends.teachers import ModelSettings, make_language_model

    model = make_language_model(f"t5x:{run}", ModelSettings(options={"max_batch": 8}))

    async def ask():
        async with model:
            return await model.answer(Request("row/0", "m", "[label] Two and two?", Sampling(max_tokens=12)))

    answer = asyncio.run(asyncio.wait_for(ask(), 300))
    assert 0 < answer.completion_tokens <= 12
    assert answer.prompt_tokens > 3
