"""A student's vocabulary has the ids of the data's."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_vocabulary import END, START, write_tokenizer, write_vocabulary

from stepdistill_jax.datasets import text_vocabularies
from stepdistill_jax.datasets.wordproblems import VOCABULARY_PATH
from stepdistill_jax.prediction import vocabularies
from stepdistill_jax.prediction.description import VocabularyFile

TEXTS = [
    "",
    " ",
    "Mia has 12 apples.",
    "[label] a  b\nc",
    "Größe: 5 µm, 猫 😀",
    "<extra_id_3> x </s> y",
    "\x00",
]


@pytest.fixture(scope="module", params=["embedded", "small", "small with sentinels", "bytes", "tokenizers"])
def pair(request, tmp_path_factory):
    """(ours, the data's)."""
    if request.param == "bytes":
        return vocabularies.Utf8Bytes(), text_vocabularies.ByteVocabulary()
    if request.param == "tokenizers":
        file = write_tokenizer(tmp_path_factory.mktemp("vocabulary") / "tokenizer.json", special_first=False)
        said = VocabularyFile("tokenizers", file.name, "", start=START, end=END)
        ours = vocabularies.open_vocabulary(file.parent, said)
        return ours, text_vocabularies.TokenizersVocabulary(str(file), start=START, end=END)
    file, extra_ids = VOCABULARY_PATH, 0
    if request.param != "embedded":
        file = write_vocabulary(tmp_path_factory.mktemp("vocabulary") / "small.model")
        extra_ids = 100 if "sentinels" in request.param else 0
    ours = vocabularies.open_vocabulary(
        file.parent, VocabularyFile("sentencepiece", file.name, "", extra_ids)
    )
    return ours, text_vocabularies.SentencePieceVocabulary(str(file), extra_ids=extra_ids)


def test_texts_have_the_same_ids(pair):
    ours, theirs = pair
    assert (ours.eos_id, ours.unk_id, ours.vocab_size) == (theirs.eos_id, theirs.unk_id, theirs.vocab_size)
    assert [ours.encode(text) for text in TEXTS] == [theirs.encode(text) for text in TEXTS]
    assert ours.encode_all(TEXTS) == [theirs.encode(text) for text in TEXTS]


@given(ids=st.lists(st.integers(0, 2000), max_size=20))
def test_ids_have_the_same_text(pair, ids):
    ours, theirs = pair
    assert ours.decode(ids) == theirs.decode(ids)


def test_pieces_say_what_each_id_stands_for(pair):
    ours, _ = pair
    pieces = ours.pieces()
    assert len(pieces) == ours.vocab_size
    assert pieces[ours.eos_id] in ("</s>", END)


def test_an_unknown_kind_is_named(tmp_path):
    with pytest.raises(ValueError, match="a vocabulary of kind 'wordpiece'"):
        vocabularies.open_vocabulary(tmp_path, VocabularyFile("wordpiece"))
