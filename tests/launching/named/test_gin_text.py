"""The gin that a run by names stands for is read by gin, and says what was given."""

from pathlib import Path

import pytest

from stepdistill_jax.launching import launch
from stepdistill_jax.launching.named import gin_text, students
from stepdistill_jax.launching.named.gin_text import Plan
from stepdistill_jax.launching.named.settings import Settings

SETTINGS = Settings(
    dataset="svamp", student="t5_1_1_small", begin="checkpoints/t5/checkpoint_1000000", teacher="palm-540b", rationale_weight=0.5,
    steps=200, batch_size=16, learning_rate=0.001, eval_period=20, inputs_length=64, targets_length=32, output=Path("runs/svamp"),
    early_stopping=2, bindings=("KEEP_NEWLINES = '<extra_id_99>'", "train_script.train.eval_steps = 3"),
)  # fmt: skip


def plan_of(settings, student="t5_1_1_small", checkpoint="checkpoints/t5/checkpoint_1000000", **more):
    found = students.find(student)
    budget = found.budget(from_scratch=checkpoint is None)
    return Plan(settings, found, budget, checkpoint, **{"embedded": False, **more})


@pytest.fixture
def read(tmp_path):
    """read(text): what gin makes of a file."""
    import gin

    def parse(text):
        path = tmp_path / "train.gin"
        path.write_text(text, encoding="utf-8")
        launch.read_config([str(path)], [])
        return gin

    return parse


def test_the_text_is_a_whole_gin_file(read):
    gin = read(gin_text.gin_text(plan_of(SETTINGS)))
    train = gin.get_bindings("train", resolve_references=False)
    assert train["eval_steps"] == 3
    assert gin.query_parameter("%MIXTURE_OR_TASK_NAME") == "svamp_step_by_step"
    assert gin.query_parameter("%RATIONALE_WEIGHT") == 0.5
    assert gin.query_parameter("%STEP_OFFSET") == 1_000_000
    assert gin.query_parameter("%KEEP_NEWLINES") == "<extra_id_99>"
    assert gin.query_parameter("utils.RestoreCheckpointConfig.path") == "checkpoints/t5/checkpoint_1000000"
    monitored = gin.query_parameter("checkpoints.SaveBestCheckpointer.metric_name_to_monitor")
    assert monitored == "inference_eval/svamp_label/eval/accuracy"


def test_early_stopping_counts_the_looks_without_a_rise(read):
    gin = read(gin_text.gin_text(plan_of(SETTINGS)))
    (action,) = gin.get_bindings("train")["actions"]["INFER_EVAL"]
    rows = [{"svamp_label": {"accuracy": percent}} for percent in (50.0, 60.0, 60.0, 55.0)]
    assert [action.run(None, row) for row in rows] == [False, False, False, True]


def test_from_scratch_the_rate_falls_to_nothing_at_the_end(read):
    gin = read(gin_text.gin_text(plan_of(SETTINGS, "byt5_tiny", None)))
    assert "cosine_decay" in gin.query_parameter("%LEARNING_RATE_FACTORS")
    assert gin.query_parameter("%STEPS_PER_CYCLE") == 200
    assert gin.query_parameter("%RESTORE") is None


def test_a_language_model_has_its_own_network_optimizer_and_model(read):
    gin = read(gin_text.gin_text(plan_of(SETTINGS, "smollm2_135m", "checkpoints/smollm2_135m/checkpoint_0")))
    assert gin.query_parameter("%MODEL").configurable.name == "StepByStepDecoderModel"
    assert gin.query_parameter("%OPTIMIZER").configurable.name == "adamw"
    assert gin.query_parameter("%DROPOUT_RATE") == 0.0
    assert "cosine_decay" in gin.query_parameter("%LEARNING_RATE_FACTORS")
    assert gin.query_parameter("%NETWORK").scoped_configurable_fn().config.num_layers == 30
    assert (
        gin.query_parameter("utils.RestoreCheckpointConfig.path") == "checkpoints/smollm2_135m/checkpoint_0"
    )


def test_notes_stand_beside_what_they_are_about():
    text = gin_text.gin_text(plan_of(SETTINGS, notes={"BATCH_SIZE": "rows, with about 3.0 examples each"}))
    line = next(line for line in text.splitlines() if line.startswith("BATCH_SIZE"))
    assert line.endswith("# rows, with about 3.0 examples each")
    assert text.splitlines()[0].startswith("# stepdistill train svamp --student t5_1_1_small --from ")


def test_a_method_without_rationales_says_nothing_of_them():
    import dataclasses

    text = gin_text.gin_text(
        plan_of(
            dataclasses.replace(SETTINGS, method="fine_tuning", teacher=None, rationale_weight=None),
            embedded=True,
        )
    )
    assert "MIXTURE_OR_TASK_NAME = 'svamp_label'" in text
    assert "TEACHER" not in text
    assert "RATIONALE_WEIGHT" not in text
    assert "VOCABULARY = @datasets.embedded_vocabulary()" in text
