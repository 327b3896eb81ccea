"""What a user gets wrong is one line that names the value, its place and the mend, before anything is compiled."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from stepdistill_jax import cli, datasets
from stepdistill_jax.datasets import record_io
from stepdistill_jax.launching import launch, runs, task_modules

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def no_compilation(monkeypatch):
    """Fails the test if a step is compiled."""

    def compiled(*_, **__):
        raise AssertionError("something was compiled before the error showed")

    monkeypatch.setattr("stepdistill_jax.engine.step.initialize.TrainStateInitializer.from_scratch", compiled)
    monkeypatch.setattr("stepdistill_jax.engine.step.trainer.accumulate_gradients", compiled)
    monkeypatch.setattr("stepdistill_jax.engine.model.models.EncoderDecoderModel.predict_batch", compiled)


@pytest.fixture
def error_of(train, tmp_path, no_compilation):
    """error_of(*bindings, …) -> the message of the error that training ends with."""

    def run(*bindings, **settings):
        with pytest.raises((ValueError, FileNotFoundError)) as error:
            train(tmp_path / "run", *bindings, **settings)
        message = str(error.value)
        assert "\n" not in message
        assert "In call to configurable" not in message
        return message

    return run


@pytest.mark.parametrize(
    ("bindings", "parts"),
    [
        (
            ["MIXTURE_OR_TASK_NAME = 'wordproblem_stepbystep'"],
            ["'wordproblem_stepbystep'", "nearest 'wordproblems_step_by_step'"],
        ),
        (["EVAL_SPLIT = 'valid'"], ["wordproblems_step_by_step has no split 'valid'", "'validation'"]),
        (["VOCABULARY = @datasets.vocabulary()"], ["vocabulary", "t5.model", "macro VOCABULARY"]),
        (["MIXTURE_OR_TASK_NAME = 'svamp_label'"], ["svamp_label", "t5.model", "macro VOCABULARY"]),
        (["network.T5Config.vocab_size = 512"], ["1024 token ids", "512", "vocab_size to at least 1024"]),
        (["BATCH_SIZE = 12"], ["batch_size=12", "8 devices on mesh axis 'data'", "multiple of 8"]),
        (["BATCH_SIZE = 0"], ["batch_size=0", "above 0"]),
        (["BATCH_SIZE = 'eight'"], ["BATCH_SIZE = 'eight'", "give a number, as 8 is"]),
        (["train/utils.DatasetConfig.batch_size = 'eight'"], ["batch_size='eight'", "whole number"]),
        (["WARMUP_STEPS = '9'"], ["WARMUP_STEPS = '9'", "give a number, as 2 is"]),
        (["PACK = 'no'"], ["PACK = 'no'", "give True or False, as True is"]),
        (["TASK_FEATURE_LENGTHS = 96"], ["TASK_FEATURE_LENGTHS = 96", "give a dict, as {'inputs': 96"]),
        (["TRAIN_SHARE = 0"], ["task_choices.train_share=0", "above 0 and at most 1"]),
        (["AUGMENTATION = 'asdv'"], ["No dataset 'asdv'", "nearest 'asdiv'"]),
        (["PREFIXES = 'poem'"], ["'poem'", "use 'paper' or 'code'"]),
        (
            [
                "train/utils.DatasetConfig.paired = True",
                "PACK = False",
                "train/utils.DatasetConfig.length_buckets = 2",
            ],
            ["paired with length_buckets=2", "use length_buckets=1"],
        ),
        (["NUM_MICROBATCHES = 3"], ["num_microbatches=3", "multiple of 24"]),
        (["NUM_MICROBATCHES = 'all'"], ["num_microbatches='all'", "use 1 or more", "or 'auto'"]),
        (["NUM_PARTITIONS = 3"], ["num_partitions=3 must divide 8"]),
        (["RATIONALE_WEIGHT = -1.0"], ["rationale_weight=-1.0", "use 0 or more"]),
        (["TASK_FEATURE_LENGTHS = {'inputs': 96}"], ["{'inputs': 96}", "must give 'inputs' and 'targets'"]),
        (["TASK_FEATURE_LENGTHS = {'inputs': 9, 'targets': 9, 'label': 9}"], ["['label']", "task_ids"]),
        (
            ["network.T5Config.embed_dim = 32"],
            ["'embed_dim'", "nearest 'emb_dim'", "In the binding 'network.T5Config.embed_dim = 32'"],
        ),
        (
            ["student.StepByStepModel.rationale_weigth = 2.0"],
            ["StepByStepModel", "'rationale_weigth'", "nearest 'rationale_weight'"],
        ),
        (["trainr.Trainer.num_microbatches = 2"], ["'trainr.Trainer'", "In the binding"]),
        (["BATCH_SZE = 64"], ["'BATCH_SZE = 64'", "nearest 'BATCH_SIZE'"]),
        (["TRAIN_STEPS = %gin.REQUIRED"], ["TRAIN_STEPS is required", "--gin.TRAIN_STEPS="]),
        (["TRAIN_STEPS = %STEPS"], ["%STEPS is used", "--gin.STEPS="]),
        (["MIXTURE_OR_TASK_NAME = svamp_label"], ["quotes", "'MIXTURE_OR_TASK_NAME = svamp_label'"]),
    ],
    ids=lambda value: value[0] if len(value) == 1 else "",
)
def test_a_wrong_binding_is_one_line(error_of, bindings, parts):
    message = error_of(*bindings)
    for part in parts:
        assert part in message


def test_a_wrong_evaluation_split_is_named_before_anything_is_tokenised(error_of, monkeypatch):
    def tokenised(*_, **__):
        raise AssertionError("a split was tokenised before the error showed")

    monkeypatch.setattr("stepdistill_jax.engine.data.token_cache.tokenized", tokenised)
    assert "has no split 'valid'" in error_of("EVAL_SPLIT = 'valid'")


def test_a_missing_data_folder_says_how_to_prepare(error_of, tmp_path):
    message = error_of(data_dir=tmp_path / "none")
    assert str(tmp_path / "none" / "wordproblems" / "examples") in message
    assert "stepdistill prepare wordproblems" in message


def test_missing_rationales_say_how_to_teach(error_of, data_dir, tmp_path):
    shutil.copytree(data_dir / "wordproblems" / "examples", tmp_path / "data" / "wordproblems" / "examples")
    message = error_of(data_dir=tmp_path / "data")
    assert str(tmp_path / "data" / "wordproblems" / "rationales") in message
    assert "stepdistill teach wordproblems" in message


def test_a_split_without_a_parsed_rationale_is_named(error_of, data_dir, tmp_path):
    folder = shutil.copytree(data_dir, tmp_path / "data") / "wordproblems" / "rationales" / "worked"
    manifest = record_io.read_manifest(folder)
    splits = {
        split: [
            {**row, "unparsed_reason": "no answer marker"} for row in record_io.read_records(folder, split)
        ]
        for split in manifest["counts"]
    }
    record_io.write_records(
        folder, name="wordproblems", features=manifest["features"], splits=splits, manifest=manifest
    )
    message = error_of(data_dir=tmp_path / "data")
    assert "wordproblems_rationale/train: no examples" in message


def test_an_initial_checkpoint_that_is_not_there_is_named(error_of, tmp_path):
    (tmp_path / "start.gin").write_text(
        "from __gin__ import dynamic_registration\nfrom t5x import utils\ninclude 'gin/dsbs_t5_tiny.gin'\n"
        f"RESTORE = @utils.RestoreCheckpointConfig()\nutils.RestoreCheckpointConfig.path = '{tmp_path}/none'\n"
        "utils.RestoreCheckpointConfig.mode = 'specific'\n",
        encoding="utf-8",
    )
    assert error_of(gin_file=tmp_path / "start.gin").startswith(
        f"{tmp_path}/none is not a checkpoint: there is no such folder"
    )


def test_a_file_as_model_dir_is_named(error_of, tmp_path):
    (tmp_path / "run").write_text("", encoding="utf-8")
    assert f"model_dir='{tmp_path / 'run'}' is a file" in error_of()


def test_a_gin_file_that_is_not_there_names_the_nearest(error_of):
    message = error_of(gin_file="gin/dsbs_t5_tinny.gin")
    assert "'gin/dsbs_t5_tinny.gin'" in message
    assert "nearest 'gin/dsbs_t5_tiny.gin'" in message


def test_an_error_in_a_gin_file_says_the_line(error_of, tmp_path):
    file = tmp_path / "own.gin"
    file.write_text("include 'gin/dsbs_t5_tiny.gin'\nTRAIN_STEPS = 5\nTRAIN_STEPS : five\n", encoding="utf-8")
    assert re.search(r"own\.gin, line 3\.$", error_of(gin_file=file))


def test_no_gin_file_at_all_is_one_line():
    with pytest.raises(ValueError, match=r"^train has no value for 'model'.*--gin_file\.$"):
        launch.call("train", [], [])


def call_on(run, script, data_dir, **macros):
    bindings = [f"{name} = {value!r}" for name, value in macros.items()]
    return launch.call(script, [f"gin/{script}.gin", str(run / "config.gin")], bindings, data_dir=data_dir)


@pytest.mark.parametrize(("script", "macro"), [("eval", "EVAL_OUTPUT_DIR"), ("infer", "INFER_OUTPUT_DIR")])
def test_a_runs_own_folder_is_never_written_over(finished_run, data_dir, no_compilation, script, macro):
    before = {path: path.read_bytes() for path in finished_run.glob("*.*") if path.is_file()}
    checkpoint = str(finished_run / "checkpoint_24")
    with pytest.raises(
        ValueError, match=r"^output_dir=.* own folder.* use a folder below it, e\.g\. '.*test_eval'\.$"
    ):
        call_on(finished_run, script, data_dir, CHECKPOINT_PATH=checkpoint, **{macro: f"{finished_run}/"})
    assert {path: path.read_bytes() for path in before} == before


def test_a_checkpoint_that_is_not_there_names_those_that_are(
    finished_run, data_dir, no_compilation, tmp_path
):
    with pytest.raises(
        FileNotFoundError,
        match=r"checkpoint_7 is not a checkpoint: there is no such folder; .* has checkpoint_16, ",
    ):
        call_on(
            finished_run,
            "infer",
            data_dir,
            CHECKPOINT_PATH=str(finished_run / "checkpoint_7"),
            INFER_OUTPUT_DIR=str(tmp_path),
        )
    with pytest.raises(FileNotFoundError, match=r"no checkpoint of step 7; it has 16, 20, 24\.$"):
        runs.evaluate(finished_run, step=7, data_dir=data_dir)


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["eval", "{tmp}"], ["is not a run's folder", "config.gin"]),
        (["infer", "{tmp}/none"], ["{tmp}/none is not a run's folder"]),
        (["predict", "{tmp}", "text"], ["is not a run's folder"]),
        (["predict", "{run}", "--step", "5", "text"], ["no checkpoint of step 5"]),
        (["eval", "{run}", "--split", "dev"], ["has no split 'dev'", "'validation'"]),
        (["eval", "{run}", "--task", "wordproblems_labels"], ["nearest 'wordproblems_label'"]),
        (["eval", "{run}", "--task", "wordproblems_rationale"], ["no task with metrics", "label task"]),
        (["eval", "{run}", "--data_dir", "{tmp}/none"], ["stepdistill prepare wordproblems"]),
        (["prepare", "wordproblem"], ["No dataset 'wordproblem'; nearest 'wordproblems'"]),
        (["teach", "svmp", "--teacher", "worked"], ["No dataset 'svmp'; nearest 'svamp'"]),
        (["teach", "wordproblems", "--teacher", "worked", "--data_dir", "{tmp}"], ["stepdistill prepare"]),
        (["train", "--gin_file=gin/none.gin"], ["No gin file 'gin/none.gin'"]),
        (["train", "--gin_file=gin/dsbs_t5_tiny.gin"], ["MODEL_DIR is required", "--gin.MODEL_DIR="]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_the_command_ends_with_one_line_and_status_2(
    finished_run, data_dir, no_compilation, tmp_path, monkeypatch, capsys, arguments, parts
):
    monkeypatch.setenv("STEPDISTILL_DATA_DIR", str(data_dir))
    places = {"tmp": tmp_path, "run": finished_run}
    assert cli.main([argument.format(**places) for argument in arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("stepdistill: error: ")
    for part in parts:
        assert part.format(**places) in line


def test_the_scripts_end_with_one_line_and_status_2(tmp_path):
    flags = ["--gin_file=gin/dsbs_t5_tiny.gin", "--gin.MODEL_DIR='run'", f"--tfds_data_dir={tmp_path}"]
    environment = {name: value for name, value in os.environ.items() if name != "STEPDISTILL_DATA_DIR"}
    done = subprocess.run(
        [sys.executable, str(ROOT / "t5x" / "train.py"), *flags],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2, done.stderr[-2000:]
    ours = [line for line in done.stderr.splitlines() if "error: " in line]
    assert ours == [
        f"t5x/train.py: error: wordproblems is not prepared: no {tmp_path}/wordproblems/examples. "
        "Run: stepdistill prepare wordproblems"
    ]
    assert "Traceback" not in done.stderr
    assert json.dumps(done.stdout) == '""'


@pytest.mark.slow
def test_a_loss_that_is_not_finite_stops_the_run_by_name(train, tmp_path, data_dir):
    assert jax.device_count() == 8
    with pytest.raises(FloatingPointError, match=r"at step \d+ in .*; lower the learning rate"):
        train(
            tmp_path / "diverged",
            "BASE_LEARNING_RATE = 1e30",
            "train.infer_eval_dataset_cfg = None",
            "train.train_eval_dataset_cfg = None",
        )
    assert "nan" not in (tmp_path / "diverged" / "metrics.jsonl").read_text(encoding="utf-8").lower()


@pytest.mark.slow
def test_an_optimizer_that_leaves_nan_updates_out_goes_on(train, tmp_path):
    step, _ = train(
        tmp_path / "skipping",
        "BASE_LEARNING_RATE = 1e30",
        "adafactor.Adafactor.skip_nan_updates = True",
        "TRAIN_STEPS = 6",
        "train.infer_eval_dataset_cfg = None",
        "train.train_eval_dataset_cfg = None",
    )
    assert step == 6
    assert "nan" not in (tmp_path / "skipping" / "metrics.jsonl").read_text(encoding="utf-8").lower()


def test_an_unknown_dataset_names_the_nearest():
    task_modules.load_tasks()
    with pytest.raises(ValueError, match=r"^No dataset 'svanp'; nearest 'svamp'"):
        datasets.get("svanp")
