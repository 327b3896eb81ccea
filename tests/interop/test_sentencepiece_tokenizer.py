"""tokenizer.json: what the tokenizers library makes of it has SentencePiece's own ids."""

import json

import pytest
import sentencepiece
from small_vocabulary import write_vocabulary

from stepdistill_jax.interop.t5.sentencepiece_tokenizer import tokenizer_json

TEXTS = (
    "the queue of a label",
    "  blanks   before, between and after  ",
    "",
    "unknown {braces} and ~ tildes ^^^ in a row",
    "Ünïcödé, ﬁ ligatures, ½ and ² and full-width ＡＢＣ",
    "a line\nbreak and a\ttab",
    "中文 and 日本語, then English",
    "punctuation: (a, b) [c] 'd' \"e\" 1+2=3 > 4 | 5",
)


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory):
    return write_vocabulary(tmp_path_factory.mktemp("vocabulary") / "spiece.model")


def read(content):
    tokenizers = pytest.importorskip("tokenizers")
    return tokenizers.Tokenizer.from_str(json.dumps(content))


@pytest.mark.parametrize("text", TEXTS)
def test_ids_are_those_of_sentencepiece_with_an_end_behind(vocabulary, text):
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(vocabulary))
    tokenizer = read(tokenizer_json(vocabulary))
    ids = pieces.encode(text)
    assert tokenizer.encode(text).ids == [*ids, pieces.eos_id()]
    if pieces.unk_id() not in ids:
        assert tokenizer.decode(ids) == pieces.decode(ids)


@pytest.mark.parametrize("model_type", ["unigram", "bpe"])
def test_what_has_no_piece_is_its_bytes_where_the_vocabulary_has_them(tmp_path, model_type):
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["the queue of a label, before and after", "punctuation: (a, b)"] * 40),
        model_prefix=str(tmp_path / "bytes"),
        model_type=model_type,
        vocab_size=310,
        byte_fallback=True,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    file = tmp_path / "bytes.model"
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(file))
    tokenizer = read(tokenizer_json(file))
    for text in (*TEXTS, "é", "the 🙂 of 中, 中中 after"):
        ids = pieces.encode(text)
        assert pieces.unk_id() not in ids
        assert tokenizer.encode(text).ids == [*ids, pieces.eos_id()]
        assert tokenizer.decode(ids) == pieces.decode(ids)


def test_ids_of_t5_s_vocabulary(shared):
    file = shared / "data/vocab/t5_spiece.model"
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(file))
    tokenizer = read(tokenizer_json(file, extra_ids=100))
    for text in TEXTS:
        assert tokenizer.encode(text).ids == [*pieces.encode(text), pieces.eos_id()]
    assert tokenizer.token_to_id("<extra_id_0>") == 32_099
    assert tokenizer.get_vocab_size() == 32_100


def test_sentinels_stand_behind_the_pieces_the_first_one_last(vocabulary):
    content = tokenizer_json(vocabulary, extra_ids=3)
    vocab = content["model"]["vocab"]
    assert [piece for piece, _ in vocab[-3:]] == ["<extra_id_2>", "<extra_id_1>", "<extra_id_0>"]
    added = {token["content"]: token for token in content["added_tokens"]}
    assert added["<extra_id_0>"]["id"] == len(vocab) - 1
    assert added["<extra_id_0>"]["special"]
    assert content["model"]["type"] == "Unigram"


def test_a_model_of_characters_is_refused(tmp_path):
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["a b c d"] * 4),
        model_prefix=str(tmp_path / "characters"),
        model_type="char",
        vocab_size=16,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    with pytest.raises(ValueError, match="neither unigrams nor byte pairs"):
        tokenizer_json(tmp_path / "characters.model")
