"""The flags of a run by names, and the command that says the same again."""

from pathlib import Path

import pytest

from stepdistill_jax import cli
from stepdistill_jax.launching.named import settings
from stepdistill_jax.launching.named.settings import Settings

WHOLE = Settings(
    dataset="tickets", student="t5_1_1_small", begin="checkpoints/t5/checkpoint_1000000", method="step_by_step_teacher_label",
    teacher="gpt", share=0.25, rationale_weight=0.3, steps=480, batch_size=16, learning_rate=5e-05, early_stopping=3,
    eval_period=48, inputs_length=192, targets_length=96, prefixes="code", seed=7, output=Path("runs/a b"),
    gin_files=("gin/meshes/fsdp.gin",),
    bindings=("KEEP_NEWLINES = '<extra_id_99>'", "train/utils.DatasetConfig.paired = True"),
)  # fmt: skip


def parsed(words):
    args = cli.parser_of("train").parse_args(list(words))
    return Settings(args.dataset, **settings.given(args))


def test_a_command_says_every_setting_again():
    words = settings.command_of(WHOLE)
    assert settings.is_command_of_names(words)
    assert parsed(words[1:]) == WHOLE
    assert settings.command_of(parsed(words[1:])) == words


def test_what_is_left_open_stays_open():
    words = settings.command_of(Settings("tickets"))
    assert parsed(words[1:]) == Settings("tickets")


def test_a_run_by_gin_files_is_no_command_of_names():
    assert not settings.is_command_of_names(["stepdistill", "train", "--gin_file=a.gin"])
    assert not settings.is_command_of_names(["train.py", "--gin_file=a.gin"])


@pytest.mark.parametrize(
    ("given", "binding"),
    [
        ("DROPOUT_RATE=0", "DROPOUT_RATE = 0"),
        ("TEACHER=gpt-5", "TEACHER = 'gpt-5'"),
        ("TEACHER='gpt'", "TEACHER = 'gpt'"),
        ("KEEP_NEWLINES=<extra_id_99>", "KEEP_NEWLINES = '<extra_id_99>'"),
        ("VOCABULARY=@datasets.embedded_vocabulary()", "VOCABULARY = @datasets.embedded_vocabulary()"),
        ("train.eval_steps=%EVAL_PERIOD", "train.eval_steps = %EVAL_PERIOD"),
    ],
)
def test_a_setting_is_read_as_gin_reads_it_and_else_is_text(given, binding):
    assert parsed(["train", "tickets", "--set", given]).bindings == (binding,)


@pytest.mark.parametrize("given", ["DROPOUT_RATE", "DROPOUT_RATE=", "=3"])
def test_a_setting_without_a_name_or_value_is_one_line(given, capsys):
    assert cli.main(["train", "tickets", "--set", given]) == 2
    assert "write NAME=VALUE" in capsys.readouterr().err
