"""What a program says to whoever runs it."""

from stepdistill_jax.base import messages


def test_the_nearest_name_is_said_however_far_it_is():
    assert messages.nearest("cqa_rationales", ["cqa_rationale", "svamp_label"]) == "; nearest 'cqa_rationale'"
    assert messages.nearest("zzz", iter(["cqa"])) == "; nearest 'cqa'"


def test_of_names_that_are_equally_near_the_first_by_the_alphabet_is_said():
    assert messages.nearest("ax", ["ac", "ab"]) == messages.nearest("ax", ["ab", "ac"])


def test_nothing_is_said_where_nothing_is_known():
    assert messages.nearest("cqa", []) == ""


def test_a_line_is_said_once(monkeypatch, capsys):
    monkeypatch.setattr(messages, "_said", set())
    for message in ("a first", "a second", "a first"):
        messages.say_once(message)
    said = capsys.readouterr()
    assert said.err == "a first\na second\n"
    assert said.out == ""


def test_an_error_that_nobody_foresaw_is_one_line_that_says_how_to_see_more():
    assert (
        messages.unexpected(RuntimeError("one\n  two"))
        == "RuntimeError: one two (STEPDISTILL_DEBUG=1 shows where)"
    )
    assert messages.unexpected(AssertionError()) == "AssertionError (STEPDISTILL_DEBUG=1 shows where)"
