"""A student trained by names: the gin that is printed is what runs, and run.json gives the same command again."""

import contextlib
import io
import json

import pytest
from tiny_t5 import ONE_LAYER, gin_bindings

from stepdistill_jax import cli
from stepdistill_jax.launching import launch

STUDENT = ("--student", "t5_1_1_tiny", "--steps", "6", "--eval_period", "3", "--batch_size", "8")
SHRUNK = [f"--set={binding}" for binding in (*gin_bindings(ONE_LAYER), "seqio.Evaluator.num_examples = 8")]


@pytest.fixture
def train_by_names(data_dir, compiled_once, capsys):
    """train_by_names(*arguments) -> what it prints; fails if it does."""

    def run(*arguments):
        status = cli.main(["train", *map(str, arguments), f"--data_dir={data_dir}"])
        printed = capsys.readouterr()
        assert status == 0, printed.err
        return printed.out

    return run


@pytest.fixture
def error_of_names(data_dir, capsys):
    """error_of_names(*arguments) -> the one line that it ends with."""

    def run(*arguments):
        assert cli.main(["train", *map(str, arguments), f"--data_dir={data_dir}"]) == 2
        lines = [line for line in capsys.readouterr().err.splitlines() if "error:" in line]
        assert len(lines) == 1
        return lines[0]

    return run


def test_a_dry_run_prints_a_gin_file_that_t5xs_way_reads(train_by_names, data_dir, tmp_path):
    import gin

    text = train_by_names(
        "wordproblems", "--student", "t5_1_1_tiny", "--dry_run", "--set", "DROPOUT_RATE=0.25"
    )
    path = tmp_path / "train.gin"
    path.write_text(text, encoding="utf-8")
    launch.read_config([str(path)], [], data_dir=data_dir)
    assert gin.query_parameter("%MIXTURE_OR_TASK_NAME") == "wordproblems_step_by_step"
    assert gin.query_parameter("%TEACHER") == "worked"
    assert gin.query_parameter("%DROPOUT_RATE") == 0.25
    lengths = gin.query_parameter("%TASK_FEATURE_LENGTHS")
    assert 20 < lengths["inputs"] < 128
    assert lengths["targets"] == lengths["task_ids"] < 128
    assert "the longest training input has" in text
    assert "# about " in next(line for line in text.splitlines() if line.startswith("TRAIN_STEPS"))
    assert not (tmp_path / "runs").exists()


@pytest.fixture(scope="module")
def run_by_names(data_dir, compiled_once, tmp_path_factory):
    """(folder of a run by names, what it printed)."""
    run, printed = tmp_path_factory.mktemp("by_names") / "run", io.StringIO()
    told = [
        "wordproblems",
        *STUDENT,
        "--rationale_weight",
        "0.5",
        "--early_stopping",
        "5",
        "--output",
        str(run),
    ]
    with contextlib.redirect_stdout(printed):
        assert cli.main(["train", *told, *SHRUNK, f"--data_dir={data_dir}"]) == 0
    return run, printed.getvalue()


def settings_of(text):
    """The lines of a gin file without their comments."""
    lines = [line.partition("  # ")[0].rstrip() for line in text.splitlines() if not line.startswith("#")]
    return [line for line in lines if line]


def test_a_run_by_names_trains_and_its_run_json_gives_the_same_again(run_by_names, train_by_names):
    run, printed = run_by_names
    record = json.loads((run / "run.json").read_text())
    command = record["command"]
    assert record["best_by"] == {
        "metric": "inference_eval/wordproblems_label/eval/accuracy",
        "mode": "max",
    }
    assert command[:3] == ["stepdistill", "train", "wordproblems"]
    assert printed.startswith("# stepdistill train wordproblems --student t5_1_1_tiny --from scratch")
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert max(row["step"] for row in rows) == 6
    assert {row["task"] for row in rows if "accuracy" in row} == {"wordproblems_label"}

    again = train_by_names("--again", run, "--dry_run")
    assert settings_of(again) == settings_of(printed)
    assert train_by_names(*command[2:], "--dry_run") == again


def test_a_run_is_done_anew_with_one_change(run_by_names, train_by_names, tmp_path):
    first, printed = run_by_names
    text = train_by_names("--again", first, "--output", tmp_path / "second", "--seed", "1", "--dry_run")
    changed = set(settings_of(text)) - set(settings_of(printed))
    assert changed == {f"MODEL_DIR = {str(tmp_path / 'second')!r}", "RANDOM_SEED = 1", "SUBSET_SEED = 1"}


def test_evaluations_overlay_training_in_tensorboard(run_by_names):
    run, _ = run_by_names
    assert {path.name for path in (run / "training_eval").iterdir()} == {
        "wordproblems_label",
        "wordproblems_rationale",
    }


def test_a_finished_run_started_again_says_that_it_is_done(run_by_names, data_dir, capfd):
    run, _ = run_by_names
    assert cli.main(["train", "--again", str(run), f"--data_dir={data_dir}"]) == 0
    assert (
        "checkpoint_6 is of the last step, 6: this run is done, and nothing is trained"
        in capfd.readouterr().err
    )


def test_a_run_of_gin_files_is_done_again_from_its_config(train_by_names, finished_run, tmp_path):
    text = train_by_names("--again", finished_run, "--output", tmp_path / "other", "--dry_run")
    assert f"MODEL_DIR = '{tmp_path / 'other'}'" in text.replace("\\\n    ", "")  # gin breaks a long line
    assert "BATCH_SIZE = 8" in text


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["wordproblem", "--student", "byt5_tiny"], ["No dataset 'wordproblem'", "nearest 'wordproblems'"]),
        (["wordproblems", "--student", "byt5_tny"], ["No student 'byt5_tny'", "nearest 'byt5_tiny'"]),
        (["wordproblems"], ["--student NAME", "byt5_tiny"]),
        (["wordproblems", "--student", "t5_1_1_small"], ["pretrained", "--from CHECKPOINT", "stepdistill convert"]),
        (["wordproblems", "--student", "byt5_tiny", "--method", "finetuning"], ["No method 'finetuning'", "'fine_tuning'"]),
        (["wordproblems", "--student", "byt5_tiny", "--teacher", "gpt"], ["No rationales of gpt", "--method fine_tuning needs none"]),
        (["wordproblems", "--student", "byt5_tiny", "--share", "1.5"], ["--share=1.5", "at most 1"]),
        (["wordproblems", "--student", "byt5_tiny", "--steps", "9", "--epochs", "2"], ["--steps=9 and --epochs=2"]),
        (["wordproblems", "--student", "byt5_tiny", "--method", "fine_tuning", "--rationale_weight", "2"], ["fine_tuning has no rationale task"]),
        (["wordproblems", "--student", "byt5_tiny", "--set", "DROPUT_RATE=0"], ["macro 'DROPUT_RATE'", "nearest 'DROPOUT_RATE'"]),
        (["svamp", "--student", "byt5_tiny"], ["svamp is not prepared", "stepdistill prepare svamp"]),
        (["--student", "byt5_tiny"], ["--student goes with a dataset"]),
    ],
    ids=lambda value: " ".join(value)[:60],
)  # fmt: skip
def test_a_mistake_is_one_line_with_its_mend(error_of_names, arguments, parts):
    line = error_of_names(*arguments)
    assert [part for part in parts if part not in line] == []


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--seed", "-1"], ["--seed=-1: use 0 to 4294967295"]),
        (["--set", "TRAIN_STEPS=3"], ["TRAIN_STEPS = 3", "warm-up, decay", "for 6; give --steps in its place"]),
        (["--set", "EVAL_PERIOD=2"], ["EVAL_PERIOD = 2", "for 3; give --eval_period"]),
        (["--set", "BATCH_SIZE=16"], ["BATCH_SIZE = 16", "for 8; give --batch_size"]),
        (["--set", "MODEL_DIR=elsewhere"], ["MODEL_DIR = 'elsewhere'", "give --output"]),
        (["--method", "fine_tuning", "--set", "RATIONALE_WEIGHT=0.5"], ["RATIONALE_WEIGHT = 0.5: fine_tuning has no rationale task"]),
        (["--set", "PACK=3"], ["pack=3; use True or False"]),
        (["--gin_file", "more.gin"], ["TRAIN_STEPS = 9", "give --steps"]),
        (["--batch_size", "12"], ["batch_size=12", "multiple of 8"]),
        (["--set", "DROPOUT_RATE=abc"], ["DROPOUT_RATE = 'abc'", "give a number, as 0."]),
        (["--set", "DROPOUT_RATE=1.5"], ["dropout_rate=1.5"]),
        (["--set", "NUM_PARTITIONS=3"], ["num_partitions=3 must divide 8"]),
        (["--set", "NUM_MICROBATCHES=all"], ["num_microbatches='all'", "or 'auto'"]),
        (["--set", "EVAL_SPLIT=valid"], ["has no split 'valid'"]),
        (["--set", "network.T5Config.mlp_activations=('geluu',)"], ["geluu"]),
        (["--set", "LEARNING_RATE_FACTORS=constant * warmup"], ["no factor 'warmup'"]),
        (["--set", "utils.SaveCheckpointConfig.keep=0"], ["SaveCheckpointConfig.keep=0"]),
    ],
    ids=lambda value: " ".join(value)[:60],
)  # fmt: skip
def test_a_dry_run_refuses_what_the_run_would(error_of_names, tmp_path, monkeypatch, arguments, parts):
    (tmp_path / "more.gin").write_text("TRAIN_STEPS = 9\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    line = error_of_names("wordproblems", *STUDENT, *SHRUNK, *arguments, "--dry_run")
    assert [part for part in parts if part not in line] == []
    assert {path.name for path in tmp_path.iterdir()} == {"more.gin"}


def test_a_dry_run_looks_for_no_number_of_microbatches(train_by_names, monkeypatch):
    monkeypatch.setattr("stepdistill_jax.engine.step.fitting.resolve", None)
    flags = ("--set", "NUM_MICROBATCHES=auto", "--dry_run")
    assert "NUM_MICROBATCHES" in train_by_names("wordproblems", *STUDENT, *SHRUNK, *flags)


def test_steps_that_a_binding_changes_are_refused_by_the_run_too(error_of_names, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "give --steps" in error_of_names("wordproblems", *STUDENT, *SHRUNK, "--set", "TRAIN_STEPS=3")
    assert not list(tmp_path.iterdir())


def test_what_the_environment_says_wrongly_is_one_line_without_gin_s_calls(error_of_names, monkeypatch):
    monkeypatch.setenv("STEPDISTILL_MIXED_DATA", "alow")
    line = error_of_names("wordproblems", "--student", "byt5_tiny")
    assert line.endswith("STEPDISTILL_MIXED_DATA); use 'refuse' or 'allow'.")


def test_a_split_without_examples_is_named(data_dir, error_of_names, tmp_path, monkeypatch):
    from stepdistill_jax.datasets import preparation

    whole = preparation.prepared_manifest("wordproblems", data_dir)
    monkeypatch.setattr(preparation, "prepared_manifest", lambda *_: {**whole, "counts": {"train": 48}})
    line = error_of_names("wordproblems", "--student", "t5_1_1_tiny")
    assert "wordproblems has no examples in its validation split" in line
