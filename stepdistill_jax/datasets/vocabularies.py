"""The two vocabularies: T5's, which comes by `stepdistill prepare t5_vocabulary`, and the embedded one."""

import functools
import os
from pathlib import Path

import seqio

from stepdistill_jax.datasets import registry
from stepdistill_jax.datasets.vocabulary_files import T5_EXTRA_IDS, t5_vocabulary_path
from stepdistill_jax.datasets.wordproblems import VOCABULARY_PATH


class T5Vocabulary(seqio.SentencePieceVocabulary):
    """T5's 32,000 pieces and 100 sentinels. Its file is looked for when it is first needed, not before."""

    def __init__(self) -> None:
        super().__init__("", extra_ids=T5_EXTRA_IDS)

    def _model_context(self):
        # SeqIO calls this whenever it needs the file, and reads it at the first.
        if not self._model:
            self._sentencepiece_model_file = find_t5_vocabulary()
            if b"<extra_id_0>" in Path(self._sentencepiece_model_file).read_bytes():
                self._extra_ids = 0  # mT5's and umT5's files hold their sentinels themselves
        return super()._model_context()

    def __eq__(self, other: object) -> bool:
        if isinstance(other, T5Vocabulary):
            return True
        return (
            isinstance(other, seqio.SentencePieceVocabulary)
            and other.extra_ids == self.extra_ids
            and other.sp_model == self.sp_model
        )

    __hash__ = object.__hash__


def find_t5_vocabulary() -> str:
    """$STEPDISTILL_VOCABULARY, else DATA/vocabularies/t5.model.

    Raises:
      FileNotFoundError: says how to get it.
    """
    path = Path(os.environ.get("STEPDISTILL_VOCABULARY") or t5_vocabulary_path(registry.data_dir()))
    if not path.exists():
        raise FileNotFoundError(
            f"T5's vocabulary is not at {path}; run `stepdistill prepare t5_vocabulary`, or set STEPDISTILL_VOCABULARY."
        )
    return str(path)


@functools.cache
def vocabulary() -> seqio.Vocabulary:
    """T5's vocabulary, 32,100 ids: pad 0, end of sequence 1, unknown 2, sentinels last.

    $STEPDISTILL_VOCABULARY puts another model's in its place: a SentencePiece file, or 'bytes' for ByT5's.
    """
    return seqio.ByteVocabulary() if os.environ.get("STEPDISTILL_VOCABULARY") == "bytes" else T5Vocabulary()


@functools.cache
def embedded_vocabulary() -> seqio.SentencePieceVocabulary:
    """The vocabulary of the embedded word problems, 1,024 ids: pad 0, end of sequence 1, unknown 2."""
    return seqio.SentencePieceVocabulary(str(VOCABULARY_PATH), extra_ids=0)
