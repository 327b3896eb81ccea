"""The vocabularies: the student's (T5's, which comes by `stepdistill prepare t5_vocabulary`, or that of another model), and the embedded one.

Tasks are registered before gin is read, and so a student's vocabulary is looked up whenever it is used: a gin file chooses it.
"""

import functools
import os
import sys
from collections.abc import Callable
from typing import Any

import gin
import sentencepiece
from etils import epath

from stepdistill_jax.base import locations
from stepdistill_jax.datasets.text_vocabularies import (
    ByteVocabulary,
    SentencePieceVocabulary,
    TextVocabulary,
    for_seqio,
)
from stepdistill_jax.datasets.vocabulary_files import T5_EXTRA_IDS, t5_vocabulary_path
from stepdistill_jax.datasets.wordproblems import VOCABULARY_PATH

BYTES = "bytes"


@gin.configurable
def vocabulary_choice(file: str | None = None, extra_ids: int | None = None) -> tuple[str, int | None]:
    """(file, number of sentinels) of the student's vocabulary, as gin binds them.

    In a gin file: `from stepdistill_jax import datasets`, then `datasets.vocabulary_choice.file = 'bytes'`.

    Args:
      file: a SentencePiece model, local or gs://, or 'bytes' for ByT5's; default $STEPDISTILL_VOCABULARY, else T5's at
        DATA/vocabularies/t5.model.
      extra_ids: sentinels to add to a SentencePiece model's pieces; default 100 as in T5, or none if it holds sentinels
        itself, as mT5's and umT5's published files do.
    """
    return (
        file or os.environ.get("STEPDISTILL_VOCABULARY") or str(t5_vocabulary_path(locations.data_dir())),
        extra_ids,
    )


class StudentVocabulary(SentencePieceVocabulary):
    """The vocabulary that `vocabulary_choice` names at the time when it is asked for anything: SentencePiece's, or bytes."""

    def __init__(self) -> None:
        """Names no file of its own."""

    @property
    def stands_for(self) -> TextVocabulary:
        return _open(*vocabulary_choice(), "seqio" in sys.modules)

    @property
    def sentencepiece_model_file(self) -> str:
        return self.stands_for.sentencepiece_model_file

    @property
    def sp_model(self) -> bytes:
        return self.stands_for.sp_model

    @property
    def tokenizer(self) -> sentencepiece.SentencePieceProcessor:
        return self.stands_for.tokenizer

    @property
    def _base_vocab_size(self) -> int:
        return self.stands_for._base_vocab_size

    @property
    def extra_ids(self) -> int:
        return self.stands_for.extra_ids

    @property
    def bos_id(self) -> int | None:
        return self.stands_for.bos_id

    @property
    def eos_id(self) -> int:
        return self.stands_for.eos_id

    @property
    def unk_id(self) -> int:
        return self.stands_for.unk_id

    def _encode(self, s: str) -> list[int]:
        return self.stands_for._encode(s)

    def _decode(self, ids: list[int]) -> str:
        return self.stands_for._decode(ids)

    def _of_seqio(self) -> Any:
        return self.stands_for._of_seqio()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StudentVocabulary) or self.stands_for == other

    __hash__ = object.__hash__

    def __str__(self) -> str:
        return str(self.stands_for)


@functools.lru_cache(maxsize=16)
def _open(file: str, extra_ids: int | None, beside_seqio: bool) -> TextVocabulary:
    if file == BYTES:
        return _made(ByteVocabulary, beside_seqio)()
    return _made(SentencePieceFile, beside_seqio)(file, extra_ids)


def _made(kind: type[TextVocabulary], beside_seqio: bool) -> Callable[..., Any]:
    return for_seqio(kind) if beside_seqio else kind


class SentencePieceFile(SentencePieceVocabulary):
    """A SentencePiece model and its sentinels. Where the file is missing, an error says how to get it."""

    def __init__(self, file: str, extra_ids: int | None) -> None:
        super().__init__(file, extra_ids=T5_EXTRA_IDS if extra_ids is None else extra_ids)
        self._may_have_own_sentinels = extra_ids is None
        self._found = False

    @property
    def extra_ids(self) -> int:
        """Of a file whose own sentinels are not known yet, this reads it."""
        if self._may_have_own_sentinels:
            self._check()
            self._extra_ids = 0 if _has_sentinels(self.sentencepiece_model_file) else self._extra_ids
            self._may_have_own_sentinels = False
        return self._extra_ids

    @property
    def sp_model(self) -> bytes:
        self._check()
        return super().sp_model

    @property
    def tokenizer(self) -> sentencepiece.SentencePieceProcessor:
        self._check()
        return super().tokenizer

    def _of_seqio(self) -> Any:
        self._check()
        return super()._of_seqio()

    def _check(self) -> None:
        """Looks for the file until it has been found once."""
        if not self._found and not self._is_there():
            raise FileNotFoundError(_how_to_get(self.sentencepiece_model_file))
        self._found = True


def _how_to_get(file: str) -> str:
    if file == str(t5_vocabulary_path(locations.data_dir())):
        return f"T5's vocabulary is not at {file}; run `stepdistill prepare t5_vocabulary`, or set STEPDISTILL_VOCABULARY."
    return (
        f"The student's vocabulary is not at {file}; set datasets.vocabulary_choice.file (in gin) or "
        "STEPDISTILL_VOCABULARY to where it is."
    )


def _has_sentinels(file: str) -> bool:
    return b"<extra_id_0>" in epath.Path(file).read_bytes()


def vocabulary() -> StudentVocabulary:
    """The student's vocabulary (see `vocabulary_choice`); T5's has 32,100 ids: pad 0, end of sequence 1, unknown 2, sentinels last."""
    return _student_vocabulary("seqio" in sys.modules)


def embedded_vocabulary() -> SentencePieceVocabulary:
    """The vocabulary of the embedded word problems, 1,024 ids: pad 0, end of sequence 1, unknown 2."""
    return _embedded_vocabulary("seqio" in sys.modules)


@functools.cache
def _student_vocabulary(beside_seqio: bool) -> StudentVocabulary:
    return _made(StudentVocabulary, beside_seqio)()


@functools.cache
def _embedded_vocabulary(beside_seqio: bool) -> SentencePieceVocabulary:
    return _made(SentencePieceVocabulary, beside_seqio)(str(VOCABULARY_PATH), extra_ids=0)
