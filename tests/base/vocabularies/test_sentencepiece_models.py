"""A vocabulary's file that is none of SentencePiece is named, whoever reads it."""

import pytest

from stepdistill_jax.base.vocabularies import sentencepiece_models
from stepdistill_jax.datasets import embedded_vocabulary


@pytest.mark.parametrize("content", [b"", b"no model at all", b"\x0a\xff\xff"], ids=["empty", "text", "cut"])
def test_a_file_that_is_no_model_is_named(tmp_path, content):
    file = tmp_path / "t5.model"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"t5\.model is no SentencePiece model") as error:
        sentencepiece_models.load_sentencepiece(str(file), 100)
    assert "\n" not in str(error.value)


def test_sentinels_stand_behind_the_pieces():
    file = embedded_vocabulary().sentencepiece_model_file
    pieces = len(sentencepiece_models.read_sentencepiece(file).pieces)
    _, processor = sentencepiece_models.load_sentencepiece(str(file), 3)
    assert [processor.id_to_piece(pieces + number) for number in range(3)] == [
        f"▁<extra_id_{number}>" for number in (2, 1, 0)
    ]
