"""The first answers are shown, with what all will cost, before the rest is asked."""

import asyncio
import os

import pytest

from stepdistill_jax.teacher import Answer, JobSettings, NothingParsed, Prices, RequestError, teach
from stepdistill_jax.teacher.asking import first_look
from stepdistill_jax.teacher.asking.pending import Pending


class Counter:
    """Answers questions about plums; counts them, and says what it is told to say in the place of an answer."""

    name, model, chat = "counter", "counter-1", False

    def __init__(self, *, says=None):
        self.asked, self._says = [], says

    async def answer(self, request):
        self.asked.append(request.example_id)
        if isinstance(self._says, Exception):
            raise self._says
        number = request.prompt.split("Mia has ")[-1].split()[0]
        return Answer(self._says or f"Two more.\nThe answer is ({number} + 2).", "stop", 50, 7)


def ask(plums, model, **settings):
    return teach("plums", teacher=model, data_dir=plums.data_dir, job_settings=JobSettings(**settings))


def test_first_answers_are_shown_and_the_rest_follows(plums, capsys):
    model = Counter()
    manifest = ask(plums, model, first=3, prices=Prices(1000.0, 2000.0))
    said = capsys.readouterr().out
    assert "--- the first 3 of 8 examples ---" in said
    assert "plums/train/1  (11 + 2)" in said
    assert "3 of 3 could be read; 2 of 2 are the gold label" in said
    assert "150 tokens of prompts and 21 of answers; all 8 examples: about 400 and 56, about $0.51" in said
    assert model.asked[:3] == ["plums/train/0", "plums/train/1", "plums/train/2"]
    assert sorted(model.asked) == sorted(set(model.asked))
    assert manifest["counts"] == {"train": 4, "validation": 2, "test": 2}


def test_a_wrong_label_is_shown_beside_the_gold_one(plums, capsys):
    ask(plums, Counter(says="Because. The answer is (1 + 1)."), first=2)
    said = capsys.readouterr().out
    assert "(1 + 1) (gold: 10 + 2)" in said
    assert "0 of 2 are the gold label" in said


@pytest.mark.parametrize("settings", [{"first": 0}, {"first": 8}])
def test_where_no_more_would_follow_nothing_is_shown(plums, capsys, settings):
    assert ask(plums, Counter(), **settings)["counts"]["train"] == 4
    assert "the first" not in capsys.readouterr().out


def test_a_job_that_goes_on_is_not_shown_again(plums, capsys):
    ask(plums, Counter(), rows={"train": 2})
    ask(plums, Counter(), first=2)
    assert "the first" not in capsys.readouterr().out


def test_where_none_can_be_read_the_rest_is_not_asked(plums, capsys):
    model = Counter(says="No idea.")
    with pytest.raises(
        NothingParsed, match=r"none of the first 3 answers could be read \(3 x no answer marker\)"
    ):
        ask(plums, model, first=3)
    assert len(model.asked) == 3
    assert "plums/train/0  (no answer marker)" in capsys.readouterr().out
    assert not (plums.rationales / "counter").exists()
    with pytest.raises(NothingParsed, match="none of 8 answers"):
        ask(plums, model, first=0)
    assert len(model.asked) == 8


def test_where_none_is_answered_the_rest_is_not_asked(plums):
    model = Counter(says=RequestError("HTTP 400", "prompt too long"))
    with pytest.raises(
        ValueError, match=r"none of the first 3 examples got an answer \(HTTP 400: prompt too long\)"
    ):
        ask(plums, model, first=3)
    assert len(model.asked) == 3


@pytest.mark.parametrize(("typed", "number"), [("y\n", 8), ("n\n", 3), ("", 3)])
def test_at_a_terminal_the_rest_is_asked_when_somebody_says_so(plums, capsys, monkeypatch, typed, number):
    reading, writing = os.pipe()
    os.write(writing, typed.encode())
    os.close(writing)
    model = Counter()
    with os.fdopen(reading) as terminal:
        monkeypatch.setattr("sys.stdin", terminal)
        manifest = ask(plums, model, first=3, is_attended=True)
    assert len(model.asked) == number
    assert bool(manifest) == (number == 8)
    said = capsys.readouterr()
    assert "Ask the rest? [y/N]" in said.err
    assert ("The rest was not asked" in said.out) == (number == 3)


def test_a_job_that_is_stopped_waits_for_nobody(monkeypatch):
    reading, writing = os.pipe()
    with os.fdopen(reading) as terminal, os.fdopen(writing, "w"):
        monkeypatch.setattr("sys.stdin", terminal)
        assert asyncio.run(first_look.goes_on(lambda: True)) is False


def test_chunks_are_parted_where_the_first_examples_end():
    chunks = [[Pending(str(n), [], {}) for n in part] for part in ("ab", "", "cde")]
    head, rest = first_look.parted(chunks, 3)
    assert [pending.example for pending in head] == ["a", "b", "c"]
    assert [[pending.example for pending in chunk] for chunk in rest] == [["d", "e"]]
    head, rest = first_look.parted(chunks, 5)
    assert head == []
    assert [len(chunk) for chunk in rest] == [5]
