"""The vocabularies: the student's (T5's, which comes by `stepdistill prepare t5_vocabulary`, or that of another model), and the embedded one.

Tasks are registered before gin is read, and so a student's vocabulary is looked up whenever it is used: a gin file chooses it.
"""

import contextlib
import functools
import os
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import gin
import sentencepiece
from etils import epath

from stepdistill_jax.base import locations
from stepdistill_jax.base.vocabularies.tokenizer_files import TokenizerFile
from stepdistill_jax.datasets.dataset import Dataset
from stepdistill_jax.datasets.text_vocabularies import (
    ByteVocabulary,
    SentencePieceVocabulary,
    TextVocabulary,
    TokenizersVocabulary,
    for_seqio,
)
from stepdistill_jax.datasets.vocabulary_files import T5_EXTRA_IDS, t5_vocabulary_path
from stepdistill_jax.datasets.wordproblems import VOCABULARY_PATH

BYTES = "bytes"


class VocabularyChoice(NamedTuple):
    """Attributes:
    file: a SentencePiece model, a tokenizer.json, or 'bytes'.
    extra_ids: sentinels behind a SentencePiece model's pieces; None where the file decides.
    start, end: tokens of a tokenizer.json.
    """

    file: str
    extra_ids: int | None = None
    start: str | None = None
    end: str | None = None

    @property
    def is_tokenizer(self) -> bool:
        """Whether the file is a tokenizer.json, by its name."""
        return self.file.endswith(".json")


@gin.configurable(module="stepdistill_jax.datasets")
def vocabulary_choice(
    file: str | None = None,
    extra_ids: int | None = None,
    start: str | None = None,
    end: str | None = None,
    *,
    of_embedded: bool = False,
) -> VocabularyChoice:
    """The student's vocabulary, as gin binds it.

    In a gin file: `from stepdistill_jax import datasets`, then `datasets.vocabulary_choice.file = 'bytes'`.

    Args:
      file: a SentencePiece model, local or gs://; a decoder-only model's tokenizer.json, likewise; or 'bytes' for ByT5's.
        Default $STEPDISTILL_VOCABULARY, else T5's at DATA/vocabularies/t5.model.
      extra_ids: sentinels to add to a SentencePiece model's pieces; default 100 as in T5, or none if it holds sentinels
        itself, as mT5's and umT5's published files do.
      start: of a tokenizer.json, the token that begins a text, which is our id 0 and pads: '<|endoftext|>' of SmolLM2 and Qwen,
        '<|begin_of_text|>' of Llama 3, '<bos>' of Gemma.
      end: of a tokenizer.json, the token that ends inputs and targets: '<|im_end|>' of SmolLM2.
      of_embedded: asked by an embedded dataset, whose own vocabulary is taken where gin binds no file.
    """
    if of_embedded and file is None:
        return VocabularyChoice(str(VOCABULARY_PATH), extra_ids=0)
    return VocabularyChoice(
        file or os.environ.get("STEPDISTILL_VOCABULARY") or str(t5_vocabulary_path(locations.data_dir())),
        extra_ids,
        start,
        end,
    )


class StudentVocabulary(SentencePieceVocabulary):
    """The vocabulary that `vocabulary_choice` names at the time when it is asked for anything, of whichever kind."""

    def __init__(self) -> None:
        """Names no file of its own."""

    @property
    def stands_for(self) -> TextVocabulary:
        return _open(vocabulary_choice(), "seqio" in sys.modules)

    @property
    def sentencepiece_model_file(self) -> str:
        return self.stands_for.sentencepiece_model_file

    @property
    def sp_model(self) -> bytes:
        return self.stands_for.sp_model

    @property
    def tokenizer(self) -> sentencepiece.SentencePieceProcessor | TokenizerFile:
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
    def unk_id(self) -> int | None:
        return self.stands_for.unk_id

    def _encode(self, s: str) -> list[int]:
        return self.stands_for._encode(s)

    def _decode(self, ids: list[int]) -> str:
        return self.stands_for._decode(ids)

    def _of_seqio(self) -> Any:
        return self.stands_for._of_seqio()

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) or self.stands_for == getattr(other, "stands_for", other)

    __hash__ = object.__hash__

    def __str__(self) -> str:
        return str(self.stands_for)


class EmbeddedVocabulary(StudentVocabulary):
    """Of an embedded dataset's tasks: its own pieces, unless gin binds the file of another student's vocabulary."""

    @property
    def stands_for(self) -> TextVocabulary:
        return _open(vocabulary_choice(of_embedded=True), "seqio" in sys.modules)


@functools.lru_cache(maxsize=16)
def _open(choice: VocabularyChoice, beside_seqio: bool) -> TextVocabulary:
    if choice.file == BYTES:
        return _made(ByteVocabulary, beside_seqio)()
    if not choice.is_tokenizer:
        return _made(SentencePieceFile, beside_seqio)(choice.file, choice.extra_ids)
    if not choice.start or not choice.end:
        raise ValueError(
            f"The vocabulary {choice.file} needs the tokens that start and end a text: set datasets.vocabulary_choice.start and .end "
            "(in gin), such as '<|endoftext|>' and '<|im_end|>' of SmolLM2."
        )
    return _made(TokenizersVocabulary, beside_seqio)(choice.file, start=choice.start, end=choice.end)


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
        if not self._found and not self._is_reached():
            raise FileNotFoundError(_how_to_get(self.sentencepiece_model_file))
        self._found = True

    def _is_reached(self) -> bool:
        try:
            return self._is_there()
        except Exception as error:  # a bucket's client has errors of its own
            if "://" not in (file := self.sentencepiece_model_file):
                raise
            raise FileNotFoundError(
                f"The student's vocabulary {file} can't be reached ({error}); copy it here, and set {_what_names_it()} to the copy."
            ) from error


def _how_to_get(file: str) -> str:
    if file == str(t5_vocabulary_path(locations.data_dir())):
        return f"T5's vocabulary is not at {file}; run `stepdistill prepare t5_vocabulary`, or set STEPDISTILL_VOCABULARY."
    return f"The student's vocabulary is not at {file}; set {_what_names_it()} to where it is."


def _what_names_it() -> str:
    """What has an effect in the configuration that was read: the macro of mT5's and umT5's files, or what the environment can't."""
    for name, said in (
        ("%SENTENCEPIECE_FILE", "the macro SENTENCEPIECE_FILE (in gin, or by --set)"),
        (
            "stepdistill_jax.datasets.vocabulary_choice.file",
            "datasets.vocabulary_choice.file (in gin, or by --set)",
        ),
    ):
        with contextlib.suppress(ValueError):  # gin's, where nothing binds it
            gin.query_parameter(name)
            return said
    return "datasets.vocabulary_choice.file (in gin) or STEPDISTILL_VOCABULARY"


def _has_sentinels(file: str) -> bool:
    return b"<extra_id_0>" in epath.Path(file).read_bytes()


def vocabulary() -> StudentVocabulary:
    """The student's vocabulary (see `vocabulary_choice`); T5's has 32,100 ids: pad 0, end of sequence 1, unknown 2, sentinels last."""
    return _student_vocabulary("seqio" in sys.modules)


def embedded_vocabulary() -> EmbeddedVocabulary:
    """The vocabulary of the embedded word problems, 1,024 ids: pad 0, end of sequence 1, unknown 2.

    A student that binds `vocabulary_choice.file` in gin, as language models and ByT5 do, reads them in its own.
    """
    return _embedded_vocabulary("seqio" in sys.modules)


def known_vocabulary(dataset: Dataset) -> TextVocabulary | None:
    """The vocabulary that the dataset's tasks have as things stand; None where its file is not there (yet)."""
    if dataset.embedded:
        return embedded_vocabulary()
    file = vocabulary_choice().file
    return vocabulary() if file == BYTES or epath.Path(file).exists() else None


@functools.cache
def _student_vocabulary(beside_seqio: bool) -> StudentVocabulary:
    return _made(StudentVocabulary, beside_seqio)()


@functools.cache
def _embedded_vocabulary(beside_seqio: bool) -> EmbeddedVocabulary:
    return _made(EmbeddedVocabulary, beside_seqio)()
