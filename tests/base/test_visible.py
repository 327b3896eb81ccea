"""What others wrote does not command the reader's terminal."""

import pytest

from stepdistill_jax import cli
from stepdistill_jax.base.messages import say_once
from stepdistill_jax.base.visible import (
    is_blank,
    is_damaged,
    look,
    spelled,
    told_plainly,
    visible,
    visible_line,
)


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


def test_a_text_of_which_nothing_is_seen_is_blank():
    assert all(map(is_blank, ["", " \n", "\u200b", "\xa0\ufeff\u2060", "\x00"]))
    assert not any(map(is_blank, ["a", "\u200b.", "🍑", "\u0301"]))


@pytest.mark.parametrize("other", ["GRÜN ", "gru\u0308n", "gr\u200bün", "ｇｒün", "\ufeffgrün\xa0"])
def test_texts_that_a_reader_takes_for_one_look_alike(other):
    assert look(other) == look("grün")
    assert look("don’t – “so”") == look('don\'t - "so"')
    assert look("007") != look("7")
    assert look("a b") != look("ab")


def test_what_the_eye_cannot_tell_apart_is_spelled_out():
    assert spelled("grün") == "'grün'"
    assert spelled("gru\u0308n") == r"'gru\u0308n'"
    assert spelled("a\u200b\xa0") == r"'a\u200b\xa0'"
    assert spelled("\u1112\u1161\u11ab") == r"'\u1112\u1161\u11ab'"
    assert spelled("\u212b") == r"'\u212b'"
    assert [told_plainly(text) for text in ("it's", "grün", " a", "b\u200b")] == [
        "it's",
        "grün",
        "' a'",
        r"'b\u200b'",
    ]


def test_texts_that_were_read_in_a_wrong_encoding_are_told():
    read = [text.encode().decode("cp1252") for text in ("Größe", "naïve", "« à »", "it’s", "10 °C")]
    assert all(map(is_damaged, [*read, "Gr\ufffd\ufffde"]))
    assert not any(map(is_damaged, ["Größe", "„Spaß“", "SÃO PAULO", "“AMANHÔ", "Âme", "10 °C", "it’s €5"]))
