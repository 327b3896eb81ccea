"""A run's folder says how to train it again."""

import json
from pathlib import Path

import pytest

from stepdistill_jax.launching.commands import train
from stepdistill_jax.launching.named import again, settings
from stepdistill_jax.launching.named.settings import Settings

TOLD = Settings(
    "tickets", student="byt5_tiny", begin="scratch", steps=480, batch_size=8, output=Path("runs/tickets")
)


def run_of(folder, command):
    folder.mkdir(parents=True)
    (folder / "config.gin").write_text("")
    (folder / "run.json").write_text(json.dumps({"command": command}))
    return folder


def read(run, **changes):
    return again.read(run, changes, train._parsed)


def test_the_same_again_goes_on_in_the_same_folder(tmp_path):
    run = run_of(tmp_path / "moved", settings.command_of(TOLD, data_dir="there"))
    found = read(run)
    assert found.data_dir == "there"
    assert found.settings == settings.Settings(**{**TOLD.__dict__, "output": run})


def test_what_is_given_besides_takes_the_place_of_what_was(tmp_path):
    run = run_of(tmp_path / "run", settings.command_of(TOLD))
    found = read(run, seed=1, epochs=3.0, output=tmp_path / "other")
    assert (found.settings.seed, found.settings.epochs, found.settings.steps) == (1, 3.0, None)
    assert found.settings.batch_size == 8
    assert found.output == tmp_path / "other"


def test_a_binding_more_leaves_the_others_as_they_were(tmp_path):
    told = Settings(**{**TOLD.__dict__, "bindings": ("DROPOUT_RATE = 0", "WARMUP_STEPS = 7")})
    run = run_of(tmp_path / "run", settings.command_of(told))
    assert read(run).settings.bindings == told.bindings
    changed = read(run, bindings=("WARMUP_STEPS = 9", "PACK = False")).settings
    assert changed.bindings == ("DROPOUT_RATE = 0", "WARMUP_STEPS = 9", "PACK = False")


def test_another_student_does_not_keep_the_vocabulary_of_the_first(tmp_path):
    file, tokenizer = "datasets.vocabulary_choice.file = 'spiece.model'", "TOKENIZER = 'tokenizer.json'"
    told = Settings(**{**TOLD.__dict__, "bindings": (file, tokenizer, "DROPOUT_RATE = 0")})
    run = run_of(tmp_path / "run", settings.command_of(told))
    assert read(run, student="byt5_tiny").settings.bindings == ("DROPOUT_RATE = 0",)
    assert read(run, student="t5_1_1_base").settings.bindings == (file, "DROPOUT_RATE = 0")


def test_what_was_chosen_for_a_method_or_student_is_chosen_anew(tmp_path):
    told = Settings("tickets", student="byt5_tiny", begin="scratch", teacher="gpt", rationale_weight=1.0, learning_rate=0.01,
                    steps=480, eval_period=48, batch_size=8, inputs_length=256, targets_length=64)  # fmt: skip
    run = run_of(tmp_path / "run", settings.command_of(told))
    baseline = read(run, method="fine_tuning").settings
    assert (baseline.teacher, baseline.rationale_weight, baseline.targets_length) == (None, None, None)
    assert (baseline.steps, baseline.batch_size) == (480, 8)
    larger = read(run, student="t5_1_1_small", begin="checkpoints/t5").settings
    assert (larger.begin, larger.learning_rate, larger.inputs_length) == ("checkpoints/t5", None, None)
    assert (larger.teacher, larger.rationale_weight) == ("gpt", 1.0)


def test_of_a_run_by_gin_files_its_config_says_all(tmp_path):
    run = run_of(tmp_path / "run", ["train.py", "--gin_file=gin/dsbs_t5_tiny.gin"])
    found = read(run, bindings=("RANDOM_SEED = 1",))
    assert (found.settings, found.config, found.output) == (None, run / "config.gin", run)
    with pytest.raises(
        ValueError, match=r"trained by gin files, so --seed can't change it; --set NAME=VALUE can"
    ):
        read(run, seed=1)


def test_what_is_no_run_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"has no config\.gin"):
        read(tmp_path)
    (tmp_path / "config.gin").write_text("")
    with pytest.raises(FileNotFoundError, match=r"run\.json can't be read"):
        read(tmp_path)
