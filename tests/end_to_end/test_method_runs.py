"""Runs of the paper's other methods: what is chosen in gin goes with the run, to its evaluation and predictions."""

import json

import pytest

from stepdistill_jax.launching import runs

SHORT = ("TRAIN_STEPS = 4", "EVAL_PERIOD = 4", "TASK_FEATURE_LENGTHS = {'inputs': 96, 'targets': 96}")


def read_lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.slow
def test_a_single_task_student_on_half_the_data_with_the_codes_prefixes(train, data_dir, tmp_path):
    task = "wordproblems_rationale_then_label"
    chosen = ("PREFIXES = 'code'", "TRAIN_SHARE = 0.5", "SUBSET_SEED = 7")
    train(tmp_path / "run", *SHORT, f"MIXTURE_OR_TASK_NAME = {task!r}", *chosen)
    facts = json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))
    assert facts["data"][task]["examples"] == 24
    expected = {"prefixes": "code", "train_share": "0.5", "subset_seed": "7"}
    assert facts["sources"][task] == {"records": "wordproblems/rationales/worked", **expected}
    (row,) = runs.evaluate(
        tmp_path / "run", data_dir=data_dir, gin_bindings=["seqio.Evaluator.num_examples = None"]
    )
    assert (row["task"], row["num_examples"]) == (task, 48)
    lines = read_lines(tmp_path / "run" / "test_eval" / "predictions" / f"{task}-test-4.jsonl")
    assert all(line["inputs"].startswith("predict: ") for line in lines)
    # Four steps teach no answer marker: what was decoded is kept, and there is no label in it.
    assert {line["prediction"] for line in lines} == {""}
    assert any(line["decoded"] for line in lines)
    assert runs.predict(tmp_path / "run", ["How many apples are there?"], data_dir=data_dir) == [""]


@pytest.mark.slow
@pytest.mark.parametrize("pack", [True, False])
def test_a_paired_run_has_label_and_rationale_of_an_example_in_every_batch(train, tmp_path, pack):
    settings = (f"PACK = {pack}", "train.log_examples = True", "train/utils.DatasetConfig.paired = True")
    train(tmp_path / "run", *SHORT, *settings)
    for step in read_lines(tmp_path / "run" / "examples.jsonl"):
        label, rationale = (
            {name.partition("/")[2] for name in step["examples"] if name.startswith(f"wordproblems_{task}/")}
            for task in ("label", "rationale")
        )
        assert label == rationale != set()
    assert json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))["paired"] is True


def test_a_student_that_reads_rationales_is_given_them_in_evaluation_too(train, data_dir, tmp_path):
    task = "wordproblems_rationale_as_input"
    train(tmp_path / "run", *SHORT, f"MIXTURE_OR_TASK_NAME = {task!r}")
    lines = read_lines(tmp_path / "run" / "predictions" / f"{task}-validation-4.jsonl")
    assert len(lines) == 8
    assert all(line["inputs"].partition(" rationale: ")[2] for line in lines)
