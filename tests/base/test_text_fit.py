"""Which texts a vocabulary changes, and what is said of texts that do not fit."""

import json
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_vocabulary import write_vocabulary

from stepdistill_jax.base.text_fit import (
    CharacterCheck,
    FeatureFit,
    TaskFit,
    fit_of_labels,
    fit_of_texts,
    shown,
    task_fit,
)
from stepdistill_jax.datasets.text_vocabularies import ByteVocabulary, SentencePieceVocabulary


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    return SentencePieceVocabulary(str(write_vocabulary(tmp_path_factory.mktemp("words") / "small.model")))


def is_same(label, back):
    return label.strip() == back.strip()


def test_characters_that_the_vocabulary_has_not_are_named(words):
    assert CharacterCheck(words).lost_in('{"queue": <tech>}\n中') == ["\n", "<", "{", "}", "中"]
    assert CharacterCheck(ByteVocabulary()).lost_in('{"queue": <tech>}\n中') == []


def test_what_is_normalised_by_design_is_no_change(words):
    assert CharacterCheck(words).lost_in("two  blanks,\ta tab, a full-width Ａ and ２²") == []


def test_a_form_that_is_normalised_to_what_is_lacking_is_named_as_it_is_written(words):
    assert CharacterCheck(words).lost_in("｛") == ["｛"]


@given(st.lists(st.text(alphabet=string.printable + "é中½{}👍", max_size=20), max_size=8))
@settings(deadline=None, max_examples=100)
def test_a_text_is_changed_if_and_only_if_it_has_a_lost_character(words, texts):
    fit = fit_of_texts(words, texts)
    lost = [set(CharacterCheck(words).lost_in(text)) for text in texts]
    assert fit.num_changed == sum(bool(characters - {"\n"}) for characters in lost)
    assert fit.num_with_line_breaks == sum("\n" in characters for characters in lost)
    assert fit.num_examples == len(texts)


@given(st.text(alphabet=string.printable + "é中½{}👍", max_size=30))
@settings(deadline=None, max_examples=100)
def test_a_lost_character_is_an_unknown_id_or_a_line_break(words, text):
    unknown = words.unk_id in words.encode(text)
    assert bool(set(CharacterCheck(words).lost_in(text)) - {"\n"}) == unknown


def test_each_character_is_counted_once_a_text_and_line_breaks_apart(words):
    fit = fit_of_texts(words, ["{a}{b}", "{", "plain", "one\r\ntwo"])
    assert dict(fit.characters) == {"{": 2, "}": 1}
    assert fit.sentences("{} inputs") == [
        "2 of 4 (50 %) inputs are changed by the vocabulary: it has no '{' (in 2), '}' (in 1)."
    ]
    assert fit.line_break_sentences("{} inputs") == [
        "1 of 4 (25 %) inputs have line breaks, which the vocabulary reads as blanks; task_choices.keep_newlines keeps them."
    ]
    of_bytes = fit_of_texts(ByteVocabulary(), ["{", "one\ntwo"])
    assert of_bytes.sentences("{}") == of_bytes.line_break_sentences("{}") == []


def test_of_many_characters_the_most_frequent_are_named(words):
    fit = fit_of_texts(words, ["中", *map(chr, range(ord("一"), ord("一") + 30)), "中"])
    assert fit.num_characters == 31
    (sentence,) = fit.sentences("{} inputs")
    assert "it has no '中' (in 2), " in sentence
    assert sentence.endswith(", 11 more.")


def test_a_class_that_cannot_be_written_is_too_much_one_of_many_texts_is_not(words):
    classes = {"tech": 990, "billing": 990, "<": 1}
    texts = {f"text {number}": 1 for number in range(500)} | {"<": 1}
    assert fit_of_labels(words, classes, is_same).are_unwritable
    assert fit_of_labels(words, texts, is_same).num_unwritable == 1
    assert not fit_of_labels(words, texts, is_same).are_unwritable
    assert fit_of_labels(words, texts | {"<": 6}, is_same).are_unwritable
    assert not fit_of_labels(words, {"tech": 1}, is_same).are_unwritable


def test_labels_that_do_not_come_back_are_said_with_what_does(words):
    counts = {"<refund>": 3, "two  blanks": 2, "tech": 9}
    fit = fit_of_labels(words, counts, is_same)
    assert (fit.num_labels, fit.num_unwritable, fit.num_unwritable_examples) == (3, 2, 5)
    assert list(fit.unwritable) == ["<refund>", "two  blanks"]
    assert fit.unwritable["two  blanks"] == "two blanks"
    sentence = fit.unwritable_sentence("tickets_label/train")
    for part in (
        "2 of 3 labels, in 5 of 14 (35.7 %) examples",
        "no '<'.",
        "'<refund>' comes back as",
        "label_words",
        "ByT5",
        "mT5",
    ):
        assert part in sentence
    assert fit_of_labels(ByteVocabulary(), counts, is_same).num_unwritable == 0


def test_a_label_with_a_line_break_names_that_mend_too(words):
    assert "keep_newlines" in fit_of_labels(words, {"one\ntwo": 1}, is_same).unwritable_sentence("x")


def test_nothing_is_said_where_everything_fits():
    assert FeatureFit(num_examples=5, num_tokens=50, longest=12, room=16).sentences("{} inputs") == []


def test_a_fit_is_read_back_from_json(words):
    fit = TaskFit({"inputs": fit_of_texts(words, ["{", "a\nb"])}, fit_of_labels(words, {"<": 1}, is_same))
    assert task_fit(json.loads(json.dumps(fit.as_dict()))) == fit
    assert task_fit(json.loads(json.dumps(TaskFit().as_dict()))) == TaskFit()
    with pytest.raises((KeyError, TypeError)):
        task_fit({"features": {"inputs": {"of another version": 1}}, "labels": None})


@pytest.mark.parametrize(
    ("character", "text"), [("{", "'{'"), ("\u200d", "U+200D"), ("\u0301", "U+0301"), ("\n", "line break")]
)
def test_a_character_that_cannot_be_seen_is_named_by_its_number(character, text):
    assert shown(character) == text
