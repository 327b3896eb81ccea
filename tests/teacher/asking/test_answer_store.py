"""Answers are kept raw, once, and under the key of their request."""

import sqlite3

import pytest

from stepdistill_jax.teacher import Answer, Message, Request, Sampling
from stepdistill_jax.teacher.answers.requests import Failure
from stepdistill_jax.teacher.asking.answer_store import AnswerStore, Batch

REQUEST = Request("plums/train/0", "model", "How many?", Sampling(stop=("Q:",)))


@pytest.mark.parametrize(
    "other",
    [
        Request("plums/train/1", "model", "How many?", Sampling(stop=("Q:",))),
        Request("plums/train/0", "other", "How many?", Sampling(stop=("Q:",))),
        Request("plums/train/0", "model", "How much?", Sampling(stop=("Q:",))),
        Request("plums/train/0", "model", (Message("user", "How many?"),), Sampling(stop=("Q:",))),
        Request("plums/train/0", "model", "How many?", Sampling(stop=("Q:",), temperature=0.7)),
        Request("plums/train/0", "model", "How many?", Sampling(stop=("Q:",)), sample=1),
    ],
)
def test_whatever_differs_in_a_request_differs_in_its_key(other):
    assert other.key != REQUEST.key


def test_the_key_of_a_request_stays_what_it_was():
    """A change of keys makes everyone pay again. From: the code of the first version with a store."""
    assert REQUEST.key.startswith("096d3aeaba001ec6")


def test_an_answer_comes_back_as_it_was_and_is_never_replaced(tmp_path):
    answer = Answer("naïve \x00 \U0001f351\n\ntext ", "stop", 3, 4, "model-1")
    with AnswerStore(tmp_path / "answers.sqlite") as store:
        store.commit(Batch(answers=[(REQUEST, answer)]))
        store.commit(Batch(answers=[(REQUEST, Answer("another"))]))
    with AnswerStore(tmp_path / "answers.sqlite") as store:
        assert store.replies([REQUEST.key, "00" * 32]) == {REQUEST.key: answer}


def test_an_answer_takes_the_place_of_a_failure(tmp_path):
    final, passing = Failure("HTTP 400", "too long"), Failure("timeout", may_mend=True)
    other = Request("plums/train/1", "model", "x")
    with AnswerStore(tmp_path / "answers.sqlite") as store:
        store.commit(Batch(failures=[(REQUEST, final), (other, passing)]))
        keys = [REQUEST.key, other.key]
        assert store.replies(keys) == {REQUEST.key: final, other.key: passing}
        assert store.replies(keys, failures="final") == {REQUEST.key: final}
        assert store.replies(keys, failures="none") == {}
        store.commit(Batch(answers=[(REQUEST, Answer("yes"))]))
        assert store.replies(keys) == {REQUEST.key: Answer("yes"), other.key: passing}


def test_a_commit_that_fails_leaves_nothing_behind(tmp_path):
    bad = Answer("fine", prompt_tokens=2**80)
    with AnswerStore(tmp_path / "answers.sqlite") as store:
        with pytest.raises(OverflowError):
            store.commit(Batch(answers=[(REQUEST, Answer("good")), (Request("b", "m", "x"), bad)]))
        assert store.replies([REQUEST.key]) == {}


def test_stores_that_contradict_each_other_are_not_merged(tmp_path):
    with AnswerStore(tmp_path / "a.sqlite") as one, AnswerStore(tmp_path / "b.sqlite") as two:
        one.commit(Batch(answers=[(REQUEST, Answer("yes"))]))
        two.commit(Batch(answers=[(REQUEST, Answer("no"))]))
        with pytest.raises(ValueError, match=r"b\.sqlite answers plums/train/0 otherwise than"):
            one.copy_from(two)


def test_a_file_that_is_no_store_is_named(tmp_path):
    (tmp_path / "answers.sqlite").write_bytes(b"no database" * 100)
    with pytest.raises(ValueError, match=r"answers\.sqlite is not a readable answer store"):
        AnswerStore(tmp_path / "answers.sqlite")


def test_the_store_is_plain_sqlite(tmp_path):
    with AnswerStore(tmp_path / "answers.sqlite") as store:
        store.commit(Batch(answers=[(REQUEST, Answer("yes"))]))
    rows = sqlite3.connect(tmp_path / "answers.sqlite").execute("select example_id, text from answers")
    assert rows.fetchall() == [("plums/train/0", "yes")]


def test_a_store_of_an_earlier_version_is_read_written_and_merged(tmp_path, earlier_store):
    earlier_store(tmp_path / "a.sqlite", [(REQUEST, "paid for")])
    other = Request("plums/train/1", "model", "x")
    thoughtful = Answer("yes", "stop", 3, 4, "m-1", "Hm.")
    paid = {REQUEST.key: Answer("paid for", "stop", 3, 4, "m-1")}
    with (
        AnswerStore(tmp_path / "a.sqlite", read_only=True) as old,
        AnswerStore(tmp_path / "b.sqlite") as new,
    ):
        assert old.replies([REQUEST.key]) == paid
        new.copy_from(old)
        assert new.replies([REQUEST.key]) == paid
    with AnswerStore(tmp_path / "a.sqlite") as store:
        store.commit(Batch(answers=[(other, thoughtful)]))
    with AnswerStore(tmp_path / "a.sqlite") as store:
        assert store.replies([REQUEST.key, other.key]) == {**paid, other.key: thoughtful}
        assert store.counters()["asked"] == 1
