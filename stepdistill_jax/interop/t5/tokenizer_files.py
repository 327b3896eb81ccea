"""What transformers needs beside the weights to make and read token ids, and to stop: small files."""

import shutil
from pathlib import Path
from typing import Any

from stepdistill_jax.interop.json_files import write_json
from stepdistill_jax.interop.kept_files import SENTENCEPIECE, TOKENIZER
from stepdistill_jax.interop.t5.sentencepiece_tokenizer import is_bpe, tokenizer_json
from stepdistill_jax.interop.t5.sizes import T5Sizes

_SPECIAL = {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
_GENERATION = {"decoder_start_token_id": 0, "eos_token_id": 1, "pad_token_id": 0}
_BYTE_IDS = 3 + 256  # ByT5: padding, end, unknown, then the bytes


def write_tokenizer(
    folder: Path, sizes: T5Sizes, vocabulary: Path | None, *, otherwise: Path | None = None
) -> bool:
    """Writes generation_config.json and the tokenizer's files, as far as `folder` does not have them already.

    Args:
      sizes: say how many ids the network knows, and which family it is of.
      vocabulary: a SentencePiece model to use, whatever `folder` has.
      otherwise: one to use if `folder` has none.

    Returns:
      whether there is a tokenizer now.

    Raises:
      ValueError: if the vocabulary has more pieces than the network has embeddings, or is no SentencePiece model.
    """
    if not (folder / "generation_config.json").exists():
        write_json(folder / "generation_config.json", _GENERATION)
    if vocabulary is not None:
        for name in TOKENIZER:
            (folder / name).unlink(missing_ok=True)
    elif any((folder / name).exists() for name in (SENTENCEPIECE, "tokenizer.json")):
        vocabulary = folder / SENTENCEPIECE
    else:
        vocabulary = otherwise
    if sizes.family == "byt5":
        extra_ids, kind = sizes.vocab_size - _BYTE_IDS, "ByT5Tokenizer"
    elif vocabulary is None:
        return False
    elif vocabulary == folder / SENTENCEPIECE and not vocabulary.exists():
        return True  # tokenizer.json alone, which came with the model
    else:
        extra_ids, kind = num_extra_ids(vocabulary, sizes.vocab_size), "T5Tokenizer"
        if vocabulary != folder / SENTENCEPIECE:
            shutil.copyfile(vocabulary, folder / SENTENCEPIECE)
        if is_bpe(vocabulary):
            kind, extra_ids = "PreTrainedTokenizerFast", 0
            if not (folder / "tokenizer.json").exists():
                write_json(folder / "tokenizer.json", tokenizer_json(vocabulary))
    special: dict[str, Any] = dict(_SPECIAL)
    if extra_ids:  # transformers would add 100 to an empty list
        special["additional_special_tokens"] = [f"<extra_id_{i}>" for i in range(extra_ids)]
    if not (folder / "tokenizer_config.json").exists():
        write_json(
            folder / "tokenizer_config.json", special | {"tokenizer_class": kind, "extra_ids": extra_ids}
        )
    if not (folder / "special_tokens_map.json").exists():
        write_json(folder / "special_tokens_map.json", special)
    return True


def num_extra_ids(vocabulary: Path, vocab_size: int) -> int:
    """How many sentinels `<extra_id_N>` follow a SentencePiece model's own pieces: 100 as in T5, or none.

    mT5's and umT5's models hold their sentinels themselves, and a network may have no room for any.
    """
    import sentencepiece

    try:
        pieces = sentencepiece.SentencePieceProcessor(model_file=str(vocabulary))
    except (OSError, RuntimeError) as error:
        raise ValueError(f"{vocabulary} is no SentencePiece model ({error}).") from error
    size = pieces.get_piece_size()
    if size > vocab_size:
        raise ValueError(
            f"{vocabulary} has {size} pieces, but the network {vocab_size} embeddings; name the vocabulary that it was "
            "trained with."
        )
    has_own = pieces.piece_to_id("<extra_id_0>") != pieces.unk_id()
    return 0 if has_own or size + 100 > vocab_size else 100
