"""tokenizer.json of a SentencePiece model, unigrams or byte pairs, as the tokenizers library reads it.

It needs neither sentencepiece nor protobuf where it is read. transformers' own way from a SentencePiece file needs both, is made for
unigrams alone, and of byte pairs would make a wrong tokenizer without a word. This spells out what SentencePiece does: normalise,
mark spaces with '▁', take user-defined pieces out first, then find the likeliest pieces, or merge pairs by their pieces' scores. What
no piece has is unknown, or its bytes in UTF-8 where the model has pieces for these.
"""

import base64
from pathlib import Path
from typing import Any

from stepdistill_jax.base.vocabularies.sentencepiece_models import read_sentencepiece
from stepdistill_jax.interop.scored_merges import merges_of_scores

_NORMAL, _CONTROL, _USER_DEFINED = 1, 3, 4  # sentencepiece_model.proto: ModelProto.SentencePiece.Type
_UNIGRAM, _BPE = 1, 2  # TrainerSpec.ModelType
_SPACE = "▁"


def is_bpe(vocabulary: Path) -> bool:
    """Whether a SentencePiece model is of byte pairs, not unigrams as T5's families have."""
    return read_sentencepiece(vocabulary).trainer_spec.model_type == _BPE


def tokenizer_json(vocabulary: Path, *, extra_ids: int = 0) -> dict[str, Any]:
    """The content of tokenizer.json; an end of sequence follows every text, as with T5.

    Args:
      vocabulary: the SentencePiece file.
      extra_ids: sentinels behind its own pieces, '<extra_id_0>' the last.

    Raises:
      ValueError: for a model of characters or words.
    """
    model = read_sentencepiece(vocabulary)
    if model.trainer_spec.model_type not in (_UNIGRAM, _BPE):
        raise ValueError(f"{vocabulary} is a SentencePiece model of neither unigrams nor byte pairs.")
    for number in reversed(range(extra_ids)):
        model.pieces.add(piece=f"<extra_id_{number}>", score=0.0, type=_CONTROL)
    ids = {piece.piece: index for index, piece in enumerate(model.pieces)}
    added = [
        {
            "id": index,
            "content": piece.piece,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": piece.type == _USER_DEFINED,
            "special": piece.type != _USER_DEFINED,
        }
        for index, piece in enumerate(model.pieces)
        if piece.type in (_CONTROL, _USER_DEFINED) or index == model.trainer_spec.unk_id
    ]
    charsmap = base64.b64encode(model.normalizer_spec.precompiled_charsmap).decode()
    normalizers = [{"type": "Precompiled", "precompiled_charsmap": charsmap}] if charsmap else []
    if model.normalizer_spec.remove_extra_whitespaces:
        normalizers += [
            {"type": "Strip", "strip_left": True, "strip_right": True},
            {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "},
        ]
    if model.normalizer_spec.add_dummy_prefix:
        normalizers.append({"type": "Prepend", "prepend": _SPACE})
    normalizers.append({"type": "Replace", "pattern": {"String": " "}, "content": _SPACE})
    end = model.pieces[model.trainer_spec.eos_id].piece
    bytes_read = [{"type": "ByteFallback"}] if model.trainer_spec.byte_fallback else []
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": {"type": "Sequence", "normalizers": normalizers},
        "pre_tokenizer": None,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [_sequence("A"), _special(end)],
            "pair": [_sequence("A"), _special(end), _sequence("B"), _special(end)],
            "special_tokens": {end: {"id": end, "ids": [ids[end]], "tokens": [end]}},
        },
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": _SPACE}, "content": " "},
                *bytes_read,
                {"type": "Fuse"},
                {"type": "Strip", "content": " ", "start": 1, "stop": 0},
            ],
        },
        "model": _bpe(model, ids) if model.trainer_spec.model_type == _BPE else _unigram(model),
    }


def _sequence(name: str) -> dict[str, Any]:
    return {"Sequence": {"id": name, "type_id": 0}}


def _special(token: str) -> dict[str, Any]:
    return {"SpecialToken": {"id": token, "type_id": 0}}


def _unigram(model: Any) -> dict[str, Any]:
    return {
        "type": "Unigram",
        "unk_id": model.trainer_spec.unk_id,
        "vocab": [[piece.piece, piece.score] for piece in model.pieces],
        "byte_fallback": model.trainer_spec.byte_fallback,
    }


def _bpe(model: Any, ids: dict[str, int]) -> dict[str, Any]:
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": model.pieces[model.trainer_spec.unk_id].piece,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": True,
        "byte_fallback": model.trainer_spec.byte_fallback,
        "ignore_merges": False,
        "vocab": ids,
        "merges": merges_of_scores(
            {piece.piece: piece.score for piece in model.pieces if piece.type == _NORMAL}
        ),
    }
