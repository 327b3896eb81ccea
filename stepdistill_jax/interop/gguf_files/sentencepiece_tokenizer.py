"""SentencePiece's byte pairs out of a GGUF file, as Gemma and Llama 2 have them, as tokenizer.json.

llama.cpp calls this kind 'llama': pieces with scores, of which the best scored pair of neighbours merges first, and bytes for what has
no piece. tokenizer.json has merges in their place. What comes out is compared with SentencePiece itself, which gets the same pieces.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import sentencepiece
import tokenizers
from sentencepiece import sentencepiece_model_pb2

from stepdistill_jax.interop.scored_merges import merges_of_scores

# llama.cpp's types of tokens, which are SentencePiece's.
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
SPACE = "▁"
_WRITTEN_BYTES = {f"<0x{byte:02X}>" for byte in range(256)}
_COMPARED = 10_000  # texts of neighbouring pieces, at most


def scored_tokenizer(
    tokens: Sequence[str], types: Sequence[int], fields: Mapping[str, Any], *, where: str
) -> dict[str, Any]:
    """The content of tokenizer.json.

    Args:
      tokens, types: of every id.
      fields: of the file.
      where: the file, for errors.

    Raises:
      ValueError: if merges cannot give the ids that scores do.
    """
    scores, prefix = fields.get("tokenizer.ggml.scores"), fields.get("tokenizer.ggml.add_space_prefix", True)
    # Of tokens that are cut out wherever they stand, llama.cpp's converter writes blanks as they are in a text.
    tokens = [
        token.replace(" ", SPACE) if kind == USER_DEFINED else token
        for token, kind in zip(tokens, types, strict=True)
    ]
    if problem := _problem(tokens, types, scores, fields, prefix=prefix):
        raise ValueError(_refusal(where, problem))
    content = _content(tokens, types, scores, prefix=prefix)
    ours = tokenizers.Tokenizer.from_str(json.dumps(content))
    ours.encode_special_tokens = True
    theirs = _sentencepiece(tokens, types, scores, prefix=prefix)
    for text in _texts(tokens, types):
        if ours.encode(text).ids != theirs.encode(text):
            raise ValueError(_refusal(where, f"merges in place of scores cut {text[:60]!r} in another way"))
    return content


def _refusal(where: str, problem: str) -> str:
    return (
        f"{where}: its tokenizer (tokenizer.ggml.model='llama') is not rebuilt: {problem}. Convert the model's Hugging Face folder, which "
        "has its tokenizer.json."
    )


def _problem(tokens, types, scores, fields, *, prefix: bool) -> str | None:
    """Why merges cannot stand for the scores; None if they can."""
    if scores is None or len(scores) != len(tokens):
        return f"it has {len(scores or ())} tokenizer.ggml.scores for {len(tokens)} tokens"
    if len(set(tokens)) < len(tokens):
        return "some of its tokens differ in nothing but how they write a blank"
    if not all(tokens):
        return f"token {list(tokens).index('')} is empty"
    kinds = Counter(types)
    if kinds[UNKNOWN] != 1:
        return f"{kinds[UNKNOWN]} of its tokens are of the type 'unknown', not 1"
    if {token for token, kind in zip(tokens, types, strict=True) if kind == BYTE} != _WRITTEN_BYTES:
        return f"it has {kinds[BYTE]} tokens of bytes, not <0x00> to <0xFF>"
    if fields.get("tokenizer.ggml.remove_extra_whitespaces"):
        return "it removes blanks (tokenizer.ggml.remove_extra_whitespaces)"
    if prefix and kinds[USER_DEFINED]:
        return "it puts a blank before a text and has tokens of its user's, behind which programs differ in that blank"
    normal = [
        (len(token), score)
        for token, score, kind in zip(tokens, scores, types, strict=True)
        if kind == NORMAL
    ]
    shared = Counter(score for length, score in normal if length > 1)
    score, count = shared.most_common(1)[0] if shared else (0.0, 1)
    return (
        f"{count} of its tokens have the score {score:g}, so which is merged first is not told"
        if count > 1
        else None
    )


def _content(
    tokens: Sequence[str], types: Sequence[int], scores: Sequence[float], *, prefix: bool
) -> dict[str, Any]:
    added = [
        {
            "id": index,
            "content": token,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": kind == USER_DEFINED,
            "special": kind != USER_DEFINED,
        }
        for index, (token, kind) in enumerate(zip(tokens, types, strict=True))
        if kind in (UNKNOWN, CONTROL, USER_DEFINED)
    ]
    blanks = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
    before = [{"type": "Prepend", "prepend": SPACE}] if prefix else []
    decoders = [
        {"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
    ]
    if prefix:
        decoders.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": {"type": "Sequence", "normalizers": [*before, blanks]},
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": {"type": "Sequence", "decoders": decoders},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": tokens[types.index(UNKNOWN)],
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": True,
            "ignore_merges": False,
            "vocab": {token: index for index, token in enumerate(tokens)},
            "merges": merges_of_scores(
                {
                    token: score
                    for token, score, kind in zip(tokens, scores, types, strict=True)
                    if kind == NORMAL
                }
            ),
        },
    }


def _sentencepiece(
    tokens: Sequence[str], types: Sequence[int], scores: Sequence[float], *, prefix: bool
) -> sentencepiece.SentencePieceProcessor:
    """SentencePiece with the same pieces, as llama.cpp takes them to be: no other normalisation than blanks."""
    model = sentencepiece_model_pb2.ModelProto()
    for token, kind, score in zip(tokens, types, scores, strict=True):
        model.pieces.add(piece=token, score=score, type=kind)
    model.trainer_spec.model_type = sentencepiece_model_pb2.TrainerSpec.BPE
    model.trainer_spec.byte_fallback = True
    model.normalizer_spec.name = "identity"
    model.normalizer_spec.add_dummy_prefix = prefix
    model.normalizer_spec.remove_extra_whitespaces = False
    return sentencepiece.SentencePieceProcessor(model_proto=model.SerializeToString())


def _texts(tokens: Sequence[str], types: Sequence[int]) -> Iterator[str]:
    """Neighbouring pieces in one, and runs of one character, in which merges get into each other's way."""
    for character in " \n\t-=_a0":
        yield from (character * length for length in range(1, 40))
    pieces = [
        token.replace(SPACE, " ")
        for token, kind in zip(tokens, types, strict=True)
        if kind in (NORMAL, USER_DEFINED)
    ]
    for start in range(0, len(pieces), max(4, len(pieces) // _COMPARED)):
        yield "".join(pieces[start : start + 4])
