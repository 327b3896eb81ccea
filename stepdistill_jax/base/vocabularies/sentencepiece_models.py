"""SentencePiece's models, with sentinels behind their own pieces."""

import functools
import threading

import sentencepiece
from etils import epath
from google.protobuf.message import DecodeError
from sentencepiece import sentencepiece_model_pb2

# SentencePiece loads one model at a time: several threads at once may crash it, as SeqIO found.
_LOADING = threading.Lock()


@functools.cache
def load_sentencepiece(file: str, extra_ids: int = 0) -> tuple[bytes, sentencepiece.SentencePieceProcessor]:
    """(the serialised model, what encodes with it). Sentinels are pieces of their own, the highest number first.

    Args:
      file: local, or where `etils.epath` reads.
      extra_ids: sentinels to add: '<extra_id_0>' is the last id, as in T5.

    Raises:
      ValueError: if the file is none of SentencePiece.
    """
    model = read_sentencepiece(file)
    for number in reversed(range(extra_ids)):
        model.pieces.add(
            piece=f"▁<extra_id_{number}>",
            score=0.0,
            type=sentencepiece_model_pb2.ModelProto.SentencePiece.USER_DEFINED,
        )
    serialised = model.SerializeToString()
    with _LOADING:
        return serialised, sentencepiece.SentencePieceProcessor(model_proto=serialised)


def read_sentencepiece(file: str | epath.Path) -> sentencepiece_model_pb2.ModelProto:
    """A model's pieces and settings.

    Raises:
      ValueError: if the file is none of SentencePiece.
    """
    try:
        model = sentencepiece_model_pb2.ModelProto.FromString(epath.Path(file).read_bytes())
    except DecodeError:
        model = None
    if model is None or not model.pieces:
        raise ValueError(
            f"{file} is no SentencePiece model, or a damaged one; put the student's own in its place."
        )
    return model
