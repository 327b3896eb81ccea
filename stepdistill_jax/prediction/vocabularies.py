"""A student's vocabulary from its folder: the ids of `datasets.text_vocabularies`, without SeqIO and TensorFlow."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

from stepdistill_jax.base.vocabularies.sentencepiece_models import load_sentencepiece
from stepdistill_jax.base.vocabularies.tokenizer_files import load_tokenizer
from stepdistill_jax.prediction.description import TOKENIZERS, VocabularyFile


class Vocabulary(Protocol):
    """Text to token ids and back; the names are SeqIO's, but for `encode_all`."""

    eos_id: int
    unk_id: int | None
    vocab_size: int

    def encode(self, text: str) -> list[int]: ...

    def encode_all(self, texts: Sequence[str]) -> list[list[int]]: ...

    def decode(self, ids: Iterable[int]) -> str: ...

    def pieces(self) -> list[str]: ...


class SentencePieceModel:
    """A SentencePiece model's pieces, and sentinels behind them."""

    def __init__(self, file: Path, extra_ids: int) -> None:
        _, self._processor = load_sentencepiece(str(file), extra_ids)
        self.eos_id: int = self._processor.eos_id()
        self.unk_id: int = self._processor.unk_id()
        self.vocab_size: int = self._processor.get_piece_size()

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, without an end of sequence."""
        return self._processor.encode_as_ids(text)

    def encode_all(self, texts: Sequence[str]) -> list[list[int]]:
        """As `encode`, of many texts at once."""
        return self._processor.encode(list(texts))

    def decode(self, ids: Iterable[int]) -> str:
        """The text of token ids up to the first end of sequence; ids that there are not are read as unknown."""
        known = [i if i < self.vocab_size else self.unk_id for i in _up_to_end(ids, self.eos_id)]
        return self._processor.decode_ids(known)

    def pieces(self) -> list[str]:
        """What each id stands for; '▁' is a blank."""
        return [self._processor.id_to_piece(token) for token in range(self.vocab_size)]


class Utf8Bytes:
    """ByT5's: a text's UTF-8 bytes, three further on; 0 pads, 1 ends a sequence, 2 is unknown (arXiv:2105.13626)."""

    eos_id = 1
    unk_id = 2
    vocab_size = 259
    _FIRST = 3

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, without an end of sequence."""
        return [byte + self._FIRST for byte in text.encode("utf-8")]

    def encode_all(self, texts: Sequence[str]) -> list[list[int]]:
        """As `encode`, of many texts."""
        return [self.encode(text) for text in texts]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of token ids up to the first end of sequence; bytes that are no UTF-8 are left out."""
        named = [i - self._FIRST for i in _up_to_end(ids, self.eos_id)]
        return bytes(byte for byte in named if 0 <= byte < 256).decode("utf-8", errors="ignore")

    def pieces(self) -> list[str]:
        """What each id stands for."""
        return ["<pad>", "</s>", "<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]


def open_vocabulary(folder: Path, vocabulary: VocabularyFile) -> Vocabulary:
    """The vocabulary of the student in `folder`.

    Raises:
      ValueError: for a kind that there is not.
    """
    if vocabulary.kind == "bytes":
        return Utf8Bytes()
    if vocabulary.kind == "sentencepiece" and vocabulary.file is not None:
        return SentencePieceModel(folder / vocabulary.file, vocabulary.extra_ids)
    if vocabulary.kind == TOKENIZERS and vocabulary.file and vocabulary.start and vocabulary.end:
        return load_tokenizer(str(folder / vocabulary.file), vocabulary.start, vocabulary.end)
    raise ValueError(
        f"{folder}: student.json names a vocabulary of kind {vocabulary.kind!r}; use 'sentencepiece' with its file, 'tokenizers' with "
        "its file, start and end, or 'bytes'."
    )


def _up_to_end(ids: Iterable[int], eos_id: int) -> list[int]:
    found = [int(i) for i in ids]
    return found[: found.index(eos_id)] if eos_id in found else found
