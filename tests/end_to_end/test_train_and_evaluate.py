"""A student is trained, scored, asked and reported, all from its run folder."""

import json
import math
import shutil

import numpy as np
import pytest

from stepdistill_jax import datasets, report
from stepdistill_jax.engine.step import ahead_of_time
from stepdistill_jax.launching import launch, runs

STEPS, NUM_PROBLEMS = 24, 48


def read_lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_metrics_have_a_row_for_every_step(finished_run):
    rows = [row for row in read_lines(finished_run / "metrics.jsonl") if row["split"] == "train"]
    assert [row["step"] for row in rows] == list(range(1, STEPS + 1))
    for row in rows:
        assert row["label_tokens"] > 0
        assert row["rationale_tokens"] > 0
        assert 0 <= row["padding_fraction"] < 1
        assert all(math.isfinite(row[name]) for name in ("loss", "label_loss", "rationale_loss"))


def test_the_loss_is_the_sum_of_both_terms_and_falls(finished_run):
    rows = [row for row in read_lines(finished_run / "metrics.jsonl") if row["split"] == "train"]
    for row in rows:  # Eq. 3 with λ = 1, and z-loss of weight 1e-4 on top
        assert 0 <= row["loss"] - row["label_loss"] - row["rationale_loss"] < 0.05
    assert rows[-1]["label_loss"] < rows[0]["label_loss"] - 1
    assert rows[-1]["rationale_loss"] < rows[0]["rationale_loss"] - 0.5


def test_metrics_have_both_kinds_of_evaluation(finished_run):
    rows = [row for row in read_lines(finished_run / "metrics.jsonl") if row["split"] == "validation"]
    forced = [(row["step"], row["task"]) for row in rows if "loss" in row]
    decoded = [(row["step"], row["task"], row["num_examples"]) for row in rows if "accuracy" in row]
    assert forced == [(step, f"wordproblems_{kind}") for step in (12, 24) for kind in ("label", "rationale")]
    assert decoded == [(12, "wordproblems_label", 8), (24, "wordproblems_label", 8)]
    rationale = next(row for row in rows if row["task"] == "wordproblems_rationale")
    assert rationale["label_loss"] is None
    assert rationale["rationale_loss"] > 0


def test_steps_that_are_compiled_beside_the_start_up_give_the_same_metrics(
    finished_run, train, tmp_path, monkeypatch
):
    begun = []

    def compile_ahead(*arguments, **settings):
        begun.append(len(settings["eval_batch_specs"]))
        real(*arguments, **settings)

    real = ahead_of_time.compile_ahead
    monkeypatch.setattr(ahead_of_time, "compile_ahead", compile_ahead)
    monkeypatch.setattr(ahead_of_time, "usable_cpus", lambda: 8)
    train(tmp_path / "run")
    assert begun == [1]
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == (finished_run / "metrics.jsonl").read_bytes()
    train(tmp_path / "buckets", "PACK = False", "utils.DatasetConfig.length_buckets = 2", "TRAIN_STEPS = 1")
    assert begun == [1]  # of several lengths none is known to come first


def test_the_run_folder_says_what_was_run(finished_run):
    facts = json.loads((finished_run / "run.json").read_text(encoding="utf-8"))
    assert facts["mixture_or_task_name"] == "wordproblems_step_by_step"
    assert facts["seed"] == 0
    assert facts["num_parameters"] > 0
    assert {"jax", "flax", "orbax-checkpoint", "seqio"} <= set(facts["versions"])
    assert facts["devices"].startswith("8 x ")
    assert facts["sources"] == {
        "wordproblems_label": {"records": "wordproblems/examples", "prefixes": "paper"},
        "wordproblems_rationale": {"records": "wordproblems/rationales/worked", "prefixes": "paper"},
    }


def test_the_runs_config_alone_gives_the_same_config(finished_run):
    import gin

    launch.read_config([str(finished_run / "config.gin")], [])
    assert gin.config_str() == (finished_run / "config.gin").read_text(encoding="utf-8")


def test_the_run_folder_has_checkpoints_events_timing_and_predictions(finished_run):
    steps = sorted(int(path.name.removeprefix("checkpoint_")) for path in finished_run.glob("checkpoint_*"))
    assert steps == [16, 20, 24]  # the newest three
    assert list((finished_run / "train").glob("events.out.tfevents.*"))
    assert list((finished_run / "inference_eval").rglob("events.out.tfevents.*"))
    assert all(row["tokens_per_second"] > 0 for row in read_lines(finished_run / "timing.jsonl")[1:])
    predictions = read_lines(finished_run / "predictions" / "wordproblems_label-validation-24.jsonl")
    assert len(predictions) == 8
    first = predictions[0]
    assert first["example_id"] == "wordproblems/validation/0"
    assert first["inputs"].startswith("[label] ")
    assert isinstance(first["correct"], bool)


def test_evaluation_scores_the_test_split_beside_the_runs_own_metrics(finished_run, data_dir):
    before = (finished_run / "metrics.jsonl").read_bytes()
    rows = runs.evaluate(finished_run, data_dir=data_dir)
    assert [(row["step"], row["split"], row["task"]) for row in rows] == [(24, "test", "wordproblems_label")]
    assert read_lines(finished_run / "test_eval" / "metrics.jsonl") == rows
    assert (finished_run / "metrics.jsonl").read_bytes() == before
    predictions = read_lines(finished_run / "test_eval" / "predictions" / "wordproblems_label-test-24.jsonl")
    assert rows[0]["num_correct"] == sum(line["correct"] for line in predictions)


def test_evaluation_of_the_last_step_agrees_with_the_runs_own(finished_run, data_dir):
    evaluated = runs.evaluate(finished_run, split="validation", data_dir=data_dir)
    in_run = [row for row in read_lines(finished_run / "metrics.jsonl") if "accuracy" in row][-1]
    assert evaluated == [in_run]
    name = "wordproblems_label-validation-24.jsonl"
    predicted = [
        [line["prediction"] for line in read_lines(folder / "predictions" / name)]
        for folder in (finished_run, finished_run / "validation_eval")
    ]
    assert predicted[0] == predicted[1]


@pytest.mark.parametrize("mode", ["predict", "score", "predict_with_aux"])
def test_inference_writes_a_line_for_every_example(finished_run, data_dir, mode):
    (file,) = runs.infer(finished_run, mode=mode, task="wordproblems_label", data_dir=data_dir)
    assert file.name == f"wordproblems_label-{mode}.jsonl-00000-of-00001"
    lines = read_lines(file)
    assert [line["example_id"] for line in lines] == [f"wordproblems/test/{i}" for i in range(NUM_PROBLEMS)]
    if mode == "score":
        assert all(line["score"] < 0 for line in lines)
    else:
        assert all(isinstance(line["prediction"], str) for line in lines)
    if mode == "predict_with_aux":
        assert all(np.isfinite(line["aux"]["scores"]).all() for line in lines)
        assert all(line["aux"]["scores"] < 0 for line in lines)  # greedy, yet not certain


def test_shards_of_inference_together_are_the_whole(finished_run, data_dir, tmp_path):
    config = str(finished_run / "config.gin")
    ids = []
    for shard in (0, 1):
        bindings = [
            f"CHECKPOINT_PATH = {str(finished_run / 'checkpoint_24')!r}",
            f"INFER_OUTPUT_DIR = {str(tmp_path)!r}",
            "MIXTURE_OR_TASK_NAME = 'wordproblems_label'",
            "MODE = 'score'",
            f"infer.shard_id = {shard}",
            "infer.num_shards = 2",
        ]
        (file,) = launch.call("infer", ["gin/infer.gin", config], bindings, data_dir=data_dir)
        ids += [line["example_id"] for line in read_lines(file)]
    assert sorted(ids) == sorted(f"wordproblems/test/{i}" for i in range(NUM_PROBLEMS))


def test_predict_answers_each_text_as_evaluation_does(finished_run, data_dir):
    examples = datasets.read_examples("wordproblems", "validation", data_dir)[:3]
    answers = runs.predict(finished_run, [example.inputs for example in examples])
    lines = read_lines(finished_run / "predictions" / "wordproblems_label-validation-24.jsonl")
    # Decoding here goes on for longer than the split's longest label.
    beginnings = [line["prediction"].rstrip("\ufffd ")[:10] for line in lines[: len(examples)]]
    assert any(beginnings)
    for answer, beginning in zip(answers, beginnings, strict=True):
        assert answer.startswith(beginning)


def test_predict_can_give_rationales(finished_run):
    (rationale,) = runs.predict(finished_run, ["Mia has 12 apples and buys 5 more."], rationale=True)
    assert isinstance(rationale, str)


def test_an_interrupted_saves_folder_is_no_checkpoint(finished_run):
    leftover = finished_run / "checkpoint_28.orbax-checkpoint-tmp-7"
    leftover.mkdir()
    try:
        assert runs._checkpoint(finished_run, None).name == "checkpoint_24"
    finally:
        leftover.rmdir()


def test_fine_tuning_trains_on_labels_alone(train, tmp_path):
    train(tmp_path / "fine_tuning", "MIXTURE_OR_TASK_NAME = 'wordproblems_label'", "TRAIN_STEPS = 4")
    rows = read_lines(tmp_path / "fine_tuning" / "metrics.jsonl")
    assert all(row["rationale_loss"] is None for row in rows if "loss" in row)
    assert [row["step"] for row in rows if row["split"] == "train"] == [1, 2, 3, 4]


def test_training_reads_where_the_caller_says_and_no_longer(finished_run, monkeypatch, data_dir):
    monkeypatch.setenv("STEPDISTILL_DATA_DIR", "elsewhere")
    runs.infer(finished_run, mode="score", task="wordproblems_label", data_dir=data_dir)
    assert str(datasets.data_dir()) == "elsewhere"


def test_the_report_opens_over_the_run(finished_run, tmp_path):
    copy = shutil.copytree(finished_run, tmp_path / "run", ignore=shutil.ignore_patterns("checkpoint_*"))
    page = report.write_report([copy], tmp_path / "report")
    text = page.read_text(encoding="utf-8")
    assert "wordproblems" in text
    assert "http://" not in text.replace("http://www.w3.org", "")
