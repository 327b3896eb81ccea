"""Text to token ids and back, without TensorFlow: SentencePiece's models, tokenizer.json, and ByT5's bytes.

They have what SeqIO's vocabularies have, and the same ids. SeqIO tasks take them too: `for_seqio` gives them SeqIO's class, and
what runs inside a TensorFlow graph is asked of SeqIO's own vocabulary.
"""

import abc
import functools
import hashlib
from collections.abc import Callable, Iterable
from typing import Any

import sentencepiece
from etils import epath

from stepdistill_jax.base import quiet
from stepdistill_jax.base.vocabularies.sentencepiece_models import load_sentencepiece
from stepdistill_jax.base.vocabularies.tokenizer_files import TokenizerFile, load_tokenizer

PAD_ID = 0


class TextVocabulary(abc.ABC):
    """What a task, a model and a report ask of a vocabulary; the names are those of `seqio.Vocabulary`."""

    pad_id = PAD_ID
    bos_id: int | None
    eos_id: int
    unk_id: int | None
    extra_ids: int
    vocab_size: int

    @property
    @abc.abstractmethod
    def _base_vocab_size(self) -> int:
        """Ids above it are read as unknown."""

    @abc.abstractmethod
    def _encode(self, s: str) -> list[int]: ...

    @abc.abstractmethod
    def _decode(self, ids: list[int]) -> str: ...

    @abc.abstractmethod
    def _of_seqio(self) -> Any:
        """SeqIO's vocabulary of the same ids."""

    def encode(self, s: str) -> list[int]:
        """Token ids of a text, without an end of sequence."""
        return self._encode(s)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of token ids up to the first end of sequence; ids that there are not are read as unknown, or left out."""
        named = (int(i) if i < self._base_vocab_size else self.unk_id for i in ids)
        known = [i for i in named if i is not None]
        if self.eos_id in known:
            known = known[: known.index(self.eos_id) + 1]
        return self._decode(known)

    def encode_tf(self, s: Any) -> Any:
        """As `encode`, of a tf.string."""
        return self._of_seqio().encode_tf(s)

    def decode_tf(self, ids: Any) -> Any:
        """As `decode`, of a tf.int32 [..., length]."""
        return self._of_seqio().decode_tf(ids)

    def _encode_tf(self, s: Any) -> Any:
        return self._of_seqio()._encode_tf(s)

    def _decode_tf(self, ids: Any) -> Any:
        return self._of_seqio()._decode_tf(ids)


class SentencePieceVocabulary(TextVocabulary):
    """A SentencePiece model's pieces, and sentinels behind them: '<extra_id_0>' is the last id, as in T5."""

    def __init__(self, sentencepiece_model_file: str, extra_ids: int = 0) -> None:
        """Opens nothing yet: the file is read when it is first needed.

        Args:
          sentencepiece_model_file: local, or where `etils.epath` reads.
          extra_ids: sentinels to add to the model's own pieces.
        """
        self._file = sentencepiece_model_file
        self._extra_ids = extra_ids

    def __getstate__(self) -> dict[str, Any]:
        return dict(self.__dict__)  # names only: gin copies what it binds

    def load_model(self) -> None:
        """Reads the file, if that has not been done."""
        self.tokenizer  # noqa: B018

    @property
    def sentencepiece_model_file(self) -> str:
        return self._file

    @property
    def extra_ids(self) -> int:
        return self._extra_ids

    @property
    def sp_model(self) -> bytes:
        """The serialised model, sentinels included."""
        return load_sentencepiece(self.sentencepiece_model_file, self.extra_ids)[0]

    @property
    def tokenizer(self) -> sentencepiece.SentencePieceProcessor:
        return load_sentencepiece(self.sentencepiece_model_file, self.extra_ids)[1]

    @property
    def tf_tokenizer(self) -> Any:
        """TensorFlow Text's tokenizer of the same model."""
        return self._of_seqio().tf_tokenizer

    @property
    def bos_id(self) -> int:
        return self.tokenizer.bos_id()

    @property
    def eos_id(self) -> int:
        return self.tokenizer.eos_id()

    @property
    def unk_id(self) -> int:
        return self.tokenizer.unk_id()

    @property
    def vocab_size(self) -> int:
        return self._base_vocab_size

    @property
    def _base_vocab_size(self) -> int:
        return self.tokenizer.get_piece_size()

    def _encode(self, s: str) -> list[int]:
        return self.tokenizer.encode_as_ids(s)

    def _decode(self, ids: list[int]) -> str:
        return self.tokenizer.decode_ids([i if i < self._base_vocab_size else self.unk_id for i in ids])

    def _of_seqio(self) -> Any:
        return _seqio_sentencepiece(self.sentencepiece_model_file, self.extra_ids)

    def _is_there(self) -> bool:
        return epath.Path(self.sentencepiece_model_file).exists()

    def __eq__(self, other: object) -> bool:
        other = getattr(other, "stands_for", other)
        file = getattr(other, "sentencepiece_model_file", None)
        if file is None:
            return False
        if not self._is_there() or not epath.Path(file).exists():
            return file == self.sentencepiece_model_file
        # The pieces first: only with them is it known how many sentinels there are.
        return other.sp_model == self.sp_model and other.extra_ids == self.extra_ids

    __hash__ = object.__hash__

    def __str__(self) -> str:
        digest = hashlib.md5(self.sp_model).hexdigest()
        return f"SentencePieceVocabulary(file={self.sentencepiece_model_file}, extra_ids={self.extra_ids}, spm_md5={digest})"


@functools.cache
def _seqio_sentencepiece(file: str, extra_ids: int) -> Any:
    quiet.import_tensorflow()
    import seqio

    return seqio.SentencePieceVocabulary(file, extra_ids=extra_ids)


class TokenizersVocabulary(TextVocabulary):
    """A tokenizer.json's tokens, as decoder-only models have them; id 0 starts a text and pads.

    Inside a TensorFlow graph it calls Python (`tf.numpy_function`), as its library has no operations there.
    """

    bos_id = PAD_ID
    extra_ids = 0

    def __init__(self, tokenizer_file: str, *, start: str, end: str) -> None:
        """Opens nothing yet: the file is read when it is first needed.

        Args:
          tokenizer_file: a tokenizer.json, local or where `etils.epath` reads.
          start: the token that begins a text, '<|endoftext|>' of SmolLM2 and Qwen.
          end: the token that ends inputs and targets, '<|im_end|>'.
        """
        self.tokenizer_file = tokenizer_file
        self.start, self.end = start, end

    @property
    def tokenizer(self) -> TokenizerFile:
        return load_tokenizer(self.tokenizer_file, self.start, self.end)

    @property
    def eos_id(self) -> int:
        return self.tokenizer.eos_id

    @property
    def unk_id(self) -> int | None:
        return self.tokenizer.unk_id

    @property
    def vocab_size(self) -> int:
        return self._base_vocab_size

    @property
    def _base_vocab_size(self) -> int:
        return self.tokenizer.vocab_size

    @property
    def content(self) -> str:
        """sha256 of the file, and the tokens that start and end: what its ids depend on."""
        return f"{self.tokenizer.sha256} {self.start!r} {self.end!r}"

    def _encode(self, s: str) -> list[int]:
        return self.tokenizer.encode(s)

    def _decode(self, ids: list[int]) -> str:
        return self.tokenizer.decode(ids)

    def _of_seqio(self) -> Any:
        return for_seqio(TokenizersVocabulary)(self.tokenizer_file, start=self.start, end=self.end)

    def encode_tf(self, s: Any) -> Any:
        return self._encode_tf(s)

    def decode_tf(self, ids: Any) -> Any:
        return self._decode_tf(ids)

    def _encode_tf(self, s: Any) -> Any:
        import tensorflow as tf

        s = tf.convert_to_tensor(s)
        if s.shape.rank:
            ragged = tf.RaggedTensorSpec([*s.shape[1:], None], tf.int32, ragged_rank=s.shape.rank - 1)
            return tf.map_fn(self._encode_tf, s, fn_output_signature=ragged)
        ids = tf.numpy_function(self._ids_of_bytes, [s], tf.int32, stateful=False)
        ids.set_shape([None])
        return ids

    def _decode_tf(self, ids: Any) -> Any:
        import tensorflow as tf

        ids = tf.convert_to_tensor(ids)
        texts = tf.numpy_function(self._texts_of_ids, [ids], tf.string, stateful=False)
        texts.set_shape(ids.shape[:-1])
        return texts

    def _ids_of_bytes(self, text: Any) -> Any:
        """UTF-8 bytes, or an array of one text -> int32 [tokens]."""
        import numpy as np

        text = text if isinstance(text, bytes) else text.item()  # an array where TensorFlow runs eagerly
        return np.array(self.encode(text.decode("utf-8")), np.int32)

    def _texts_of_ids(self, ids: Any) -> Any:
        """int [..., length] -> bytes [...]."""
        import numpy as np

        texts = [self.decode(row).encode("utf-8") for row in ids.reshape(-1, ids.shape[-1])]
        return np.array(texts, object).reshape(ids.shape[:-1])

    def _is_there(self) -> bool:
        return epath.Path(self.tokenizer_file).exists()

    def __eq__(self, other: object) -> bool:
        other = getattr(other, "stands_for", other)
        if not isinstance(other, TokenizersVocabulary):
            return False
        if not self._is_there() or not other._is_there():
            return vars(self) == vars(other)
        return self.content == other.content

    __hash__ = object.__hash__

    def __str__(self) -> str:
        return f"TokenizersVocabulary(file={self.tokenizer_file}, start={self.start}, end={self.end}, sha256={self.tokenizer.sha256})"


class ByteVocabulary(TextVocabulary):
    """ByT5's: a text's UTF-8 bytes, three further on; 0 pads, 1 ends a sequence, 2 is unknown (arXiv:2105.13626)."""

    bos_id = None
    eos_id = 1
    unk_id = 2
    extra_ids = 0
    vocab_size = _base_vocab_size = 259
    _FIRST = 3

    def _encode(self, s: str) -> list[int]:
        return [byte + self._FIRST for byte in s.encode("utf-8")]

    def _decode(self, ids: list[int]) -> str:
        named = bytes(i - self._FIRST for i in ids if self._FIRST <= i < self.vocab_size)
        return named.decode("utf-8", errors="ignore")

    def _of_seqio(self) -> Any:
        import seqio

        return seqio.ByteVocabulary()

    def __eq__(self, other: object) -> bool:
        return type(other).__name__.endswith("ByteVocabulary") and other.extra_ids == self.extra_ids

    __hash__ = object.__hash__

    def __str__(self) -> str:
        return "ByteVocabulary()"


@functools.cache
def for_seqio(kind: type[TextVocabulary]) -> Callable[..., Any]:
    """A class of vocabularies as one of SeqIO's too, so that either side may compare one with the other."""
    quiet.import_tensorflow()
    import seqio

    theirs = seqio.SentencePieceVocabulary
    if issubclass(kind, ByteVocabulary):
        theirs = seqio.ByteVocabulary
    elif issubclass(kind, TokenizersVocabulary):
        theirs = seqio.Vocabulary
    return type(kind.__name__, (kind, theirs), {"__module__": kind.__module__, "__hash__": kind.__hash__})
