"""Vocabularies of decoder-only models: a tokenizer.json, its ids with two of them swapped.

SeqIO and T5X have padding and the first decoder input at id 0. There, Llama's and Qwen's vocabularies have a real token ('!'). So
our id 0 is the token that a text starts with, and the token that had id 0 has that one's: SmolLM2's '<|endoftext|>' is 0 already,
Qwen's is 151,643 in the file. The same two rows of an embedding are swapped when a model is converted (`interop.decoder_only`).

A text never yields special tokens: '<|im_end|>' in it is read as the ten characters that it is.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Iterable, Mapping, Sequence

import tokenizers
from etils import epath

PAD_ID = 0


@dataclasses.dataclass(frozen=True)
class SwappedIds:
    """Our ids and the file's, which differ in two: `start` in the file is 0 here, and 0 there is `start` here."""

    start: int

    def swap(self, token: int) -> int:
        """One's id to the other's, either way."""
        if token == self.start:
            return PAD_ID
        return self.start if token == PAD_ID else token


class TokenizerFile:
    """A tokenizer.json that has been read.

    Attributes:
      sha256: of the file, in hex.
      eos_id: of the token that ends a sequence.
      unk_id: of the token for what there is no other; None where there is none, as with pairs of bytes.
      vocab_size: one more than the largest id that a text, a start or an end has. Special tokens behind it do not count: Gemma's
        '<image_soft_token>' has no row in its embedding.
    """

    def __init__(self, file: str, start: str, end: str) -> None:
        """Reads it.

        Args:
          file: local, or where `etils.epath` reads.
          start: the token that begins a text, and pads.
          end: the token that ends a sequence.

        Raises:
          FileNotFoundError: if it is not there.
          ValueError: if it is damaged, or has no such tokens.
        """
        content = _read(file)
        self.sha256 = hashlib.sha256(content).hexdigest()
        self._tokenizer = _tokenizer(content, file)
        names = self._tokenizer.get_vocab(with_added_tokens=True)
        self._ids = SwappedIds(_id_of_token(names, start, file=file, setting="start"))
        self.eos_id = self._ids.swap(_id_of_token(names, end, file=file, setting="end"))
        if self.eos_id == PAD_ID:
            raise ValueError(
                f"{file}: {start!r} cannot both start and end a text, as id 0 pads; set datasets.vocabulary_choice.end to another "
                "token."
            )
        # What starts and ends is special, whatever the file says of it.
        self._tokenizer.add_special_tokens([start, end])
        self._tokenizer.encode_special_tokens = True
        unknown = names.get(getattr(self._tokenizer.model, "unk_token", None))
        self.unk_id = None if unknown is None else self._ids.swap(unknown)
        added = self._tokenizer.get_added_tokens_decoder()
        special = {token for token, named in added.items() if named.special} - {names[start], names[end]}
        self.vocab_size = max(set(names.values()) - special) + 1
        self._apart = {PAD_ID, self.eos_id}

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, without a start or an end."""
        return self._ours(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def encode_all(self, texts: Sequence[str]) -> list[list[int]]:
        """As `encode`, of many texts at once."""
        encodings = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [self._ours(encoding.ids) for encoding in encodings]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of token ids up to the first end of sequence; padding, special tokens and ids that there are not are left out."""
        found = [int(i) for i in ids]
        if self.eos_id in found:
            found = found[: found.index(self.eos_id)]
        kept = [self._ids.swap(i) for i in found if 0 <= i < self.vocab_size and i not in self._apart]
        return self._tokenizer.decode(kept, skip_special_tokens=True)

    def pieces(self) -> list[str]:
        """What each id stands for, as the file writes it ('Ġ' is a blank where pieces are of bytes); '' where there is nothing."""
        names = (self._tokenizer.id_to_token(self._ids.swap(token)) for token in range(self.vocab_size))
        return [name or "" for name in names]

    def _ours(self, ids: list[int]) -> list[int]:
        start = self._ids.start
        if start == PAD_ID:
            return ids
        return [start if token == PAD_ID else PAD_ID if token == start else token for token in ids]


@functools.lru_cache(maxsize=16)
def load_tokenizer(file: str, start: str, end: str) -> TokenizerFile:
    """A tokenizer.json, read once a process."""
    return TokenizerFile(file, start, end)


def ids_of_tokens(file: str) -> Mapping[str, int]:
    """Every token of a tokenizer.json and its id there, added ones included.

    Raises:
      FileNotFoundError, ValueError: if it is not there, or damaged.
    """
    return _tokenizer(_read(file), file).get_vocab(with_added_tokens=True)


def _id_of_token(names: Mapping[str, int], token: str, *, file: str, setting: str) -> int:
    """A token's id in the file.

    Raises:
      ValueError: if there is none of that name.
    """
    if token not in names:
        like = [name for name in names if name.startswith(("<|", "<bos", "<eos", "<s>", "</s>"))]
        shown = f"; it has {', '.join(sorted(like, key=names.get)[:6])}" if like else ""
        raise ValueError(
            f"{file} has no token {token!r}; set datasets.vocabulary_choice.{setting} to one that it has{shown}."
        )
    return names[token]


def _read(file: str) -> bytes:
    try:
        return epath.Path(file).read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(
            f"The student's vocabulary is not at {file}; set datasets.vocabulary_choice.file (in gin) to where its tokenizer.json is."
        ) from None


def _tokenizer(content: bytes, file: str) -> tokenizers.Tokenizer:
    try:
        return tokenizers.Tokenizer.from_buffer(content)
    except Exception as error:  # the library raises no narrower one
        raise ValueError(f"{file} is no tokenizer.json ({error}); copy or convert it again.") from error
