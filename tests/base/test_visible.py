"""What others wrote does not command the reader's terminal."""

import pytest

from stepdistill_jax import cli
from stepdistill_jax.base.messages import say_once
from stepdistill_jax.base.visible import visible, visible_line


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[2Jb", r"a\x1b[2Jb"),
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("\x9b31m red", r"\x9b31m red"),  # C1: one character in place of ESC [
        ("over\rwritten\x08\x7f", r"over\x0dwritten\x08\x7f"),
        ("user\u202etxt.exe", r"user\u202etxt.exe"),
        ("half \ud83c", r"half \ud83c"),
        ("a\tb\nc é 桃 🍑 \u200d", "a\tb\nc é 桃 🍑 \u200d"),
    ],
)
def test_control_characters_are_written_out_and_text_stays(text, shown):
    assert visible(text) == shown
    visible(text).encode()


def test_a_line_has_no_line_ends():
    assert visible_line(ValueError("a\n\n  b\x1b[1m\r\nc")) == r"a b\x1b[1m c"


def test_a_line_that_is_said_once_is_said_visibly(capsys):
    say_once("note \x1b[31m of test_visible")
    assert capsys.readouterr().err == "note \\x1b[31m of test_visible\n"


def test_an_error_that_names_a_file_names_it_visibly(tmp_path, capsys):
    folder = tmp_path / "x\x1b[2J"
    folder.mkdir()
    assert cli.main(["teach show", str(folder)]) == 2
    said = capsys.readouterr().err
    assert r"x\x1b[2J has no manifest.json" in said
    assert "\x1b" not in said
