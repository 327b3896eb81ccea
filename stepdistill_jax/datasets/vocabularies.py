"""The vocabularies: the student's (T5's, which comes by `stepdistill prepare t5_vocabulary`, or that of another model), and the embedded one.

Tasks are registered before gin is read, and so a student's vocabulary is looked up whenever it is used: a gin file chooses it.
"""

import functools
import os
from typing import Any

import gin
import seqio
import tensorflow as tf

from stepdistill_jax.base import data_dir
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
        file or os.environ.get("STEPDISTILL_VOCABULARY") or str(t5_vocabulary_path(data_dir.data_dir())),
        extra_ids,
    )


class StudentVocabulary(seqio.SentencePieceVocabulary):
    """The vocabulary that `vocabulary_choice` names at the time when it is asked for anything: SentencePiece's, or bytes.

    It is of SentencePiece's class, so that Python, when it compares one of those with it, asks it.
    """

    def __init__(self) -> None:
        super().__init__("")

    @property
    def stands_for(self) -> seqio.Vocabulary:
        return _open(*vocabulary_choice())

    def _model_context(self) -> Any:
        return self.stands_for._model_context()

    @property
    def sentencepiece_model_file(self) -> str:
        return self.stands_for.sentencepiece_model_file

    @property
    def _base_vocab_size(self) -> int:
        return self.stands_for._base_vocab_size

    @property
    def vocab_size(self) -> int:
        return self.stands_for.vocab_size

    @property
    def extra_ids(self) -> int:
        return self.stands_for.extra_ids

    @property
    def bos_id(self) -> int | None:
        return self.stands_for.bos_id

    @property
    def eos_id(self) -> int | None:
        return self.stands_for.eos_id

    @property
    def unk_id(self) -> int | None:
        return self.stands_for.unk_id

    def _encode(self, s: str) -> list[int]:
        return self.stands_for._encode(s)

    def _decode(self, ids: list[int]) -> str:
        return self.stands_for._decode(ids)

    def _encode_tf(self, s: tf.Tensor) -> tf.Tensor:
        return self.stands_for._encode_tf(s)

    def _decode_tf(self, ids: tf.Tensor) -> tf.Tensor:
        return self.stands_for._decode_tf(ids)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StudentVocabulary) or self.stands_for == other

    __hash__ = object.__hash__

    def __str__(self) -> str:
        return str(self.stands_for)


@functools.lru_cache(maxsize=16)
def _open(file: str, extra_ids: int | None) -> seqio.Vocabulary:
    return seqio.ByteVocabulary() if file == BYTES else SentencePieceFile(file, extra_ids)


class SentencePieceFile(seqio.SentencePieceVocabulary):
    """A SentencePiece model and its sentinels. Its file is looked for when it is first needed, not before."""

    def __init__(self, file: str, extra_ids: int | None) -> None:
        super().__init__(file, extra_ids=T5_EXTRA_IDS if extra_ids is None else extra_ids)
        self._may_have_own_sentinels = extra_ids is None

    def _model_context(self) -> Any:
        # SeqIO calls this whenever it needs the file, and reads it at the first.
        if not self._model:
            if not self._is_there():
                raise FileNotFoundError(_how_to_get(self.sentencepiece_model_file))
            if self._may_have_own_sentinels and _has_sentinels(self.sentencepiece_model_file):
                self._extra_ids = 0
        return super()._model_context()

    def _is_there(self) -> bool:
        return tf.io.gfile.exists(self.sentencepiece_model_file)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, seqio.SentencePieceVocabulary):
            return False
        if not self._is_there():
            return other.sentencepiece_model_file == self.sentencepiece_model_file
        # The pieces first: only with them is it known how many sentinels there are.
        return other.sp_model == self.sp_model and other.extra_ids == self.extra_ids

    __hash__ = object.__hash__


def _how_to_get(file: str) -> str:
    if file == str(t5_vocabulary_path(data_dir.data_dir())):
        return f"T5's vocabulary is not at {file}; run `stepdistill prepare t5_vocabulary`, or set STEPDISTILL_VOCABULARY."
    return (
        f"The student's vocabulary is not at {file}; set datasets.vocabulary_choice.file (in gin) or "
        "STEPDISTILL_VOCABULARY to where it is."
    )


def _has_sentinels(file: str) -> bool:
    with tf.io.gfile.GFile(file, "rb") as opened:
        return b"<extra_id_0>" in opened.read()


@functools.cache
def vocabulary() -> StudentVocabulary:
    """The student's vocabulary (see `vocabulary_choice`); T5's has 32,100 ids: pad 0, end of sequence 1, unknown 2, sentinels last."""
    return StudentVocabulary()


@functools.cache
def embedded_vocabulary() -> seqio.SentencePieceVocabulary:
    """The vocabulary of the embedded word problems, 1,024 ids: pad 0, end of sequence 1, unknown 2."""
    return seqio.SentencePieceVocabulary(str(VOCABULARY_PATH), extra_ids=0)
