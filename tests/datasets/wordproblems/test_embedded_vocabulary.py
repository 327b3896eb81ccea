"""The shipped SentencePiece vocabulary of the embedded problems."""

import string

import pytest
import sentencepiece

from stepdistill_jax.datasets.wordproblems import SPLIT_SIZES, VOCABULARY_PATH, generate
from stepdistill_jax.datasets.wordproblems.train_vocabulary import PREFIXES, VOCABULARY_SIZE


@pytest.fixture(scope="module")
def pieces():
    return sentencepiece.SentencePieceProcessor(model_file=str(VOCABULARY_PATH))


def test_special_ids_are_those_of_t5(pieces):
    assert (pieces.pad_id(), pieces.eos_id(), pieces.unk_id(), pieces.bos_id()) == (0, 1, 2, -1)
    assert pieces.get_piece_size() == VOCABULARY_SIZE


@pytest.mark.parametrize("split", sorted(SPLIT_SIZES))
def test_every_text_survives_the_round_trip(pieces, split):
    for p in generate(split):
        texts = [p.inputs, p.label, p.worked_solution]
        ids = pieces.encode(texts)
        assert pieces.decode(ids) == texts
        assert all(pieces.unk_id() not in row for row in ids)


def test_number_is_one_token_and_so_is_a_prefix(pieces):
    for word in [*map(str, range(101)), *PREFIXES]:
        assert len(pieces.encode(word)) == 1, word
    assert pieces.encode("( 12 + 5 ) * 3", out_type=str) == ["▁(", "▁12", "▁+", "▁5", "▁)", "▁*", "▁3"]


def test_ascii_text_has_no_unknown_piece(pieces):
    printable = "".join(c for c in string.printable if c.isprintable())
    assert pieces.unk_id() not in pieces.encode(f"Case is kept: {printable} 12345")
    assert pieces.decode(pieces.encode("Mia and mia")) == "Mia and mia"
