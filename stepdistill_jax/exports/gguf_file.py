"""A T5 as a GGUF file for llama.cpp's command line, and read back: whose server has no T5 (llama.cpp#8990).

llama.cpp computes T5's two feed-forward blocks, relu and gated gelu, and tokenises by unigrams; whatever else is refused. It does
not scale the output of a T5 whose output layer is its embedding: greedy answers are the same, their probabilities are not.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from stepdistill_jax import __version__
from stepdistill_jax.base.vocabularies.sentencepiece_models import read_sentencepiece
from stepdistill_jax.interop.gguf_files.writing import write_tensors
from stepdistill_jax.interop.lazy_array import FLOAT_DTYPES, cast
from stepdistill_jax.interop.t5.sentencepiece_tokenizer import is_bpe
from stepdistill_jax.interop.t5.sizes import MAX_DISTANCE, NUM_BUCKETS, T5Sizes
from stepdistill_jax.interop.t5.t5_checkpoint import T5Checkpoint
from stepdistill_jax.prediction.description import TOKENIZERS, StudentDescription

QUANTIZATIONS = ("float32", "float16")
FILE = "student.gguf"
_BLOCKS = (("relu",), ("gelu", "linear"))
_EPSILON = 1e-6
_PAD_ID = 0
_CONTROL, _UNUSED = 3, 5  # of llama.cpp's token types, which are SentencePiece's


def write_gguf(
    checkpoint: T5Checkpoint, folder: Path, *, description: StudentDescription, dtype: str
) -> None:
    """Writes FOLDER/student.gguf, and reads it back; in memory is the whole model.

    Args:
      folder: that has the student's vocabulary already.
      dtype: of the matrices; norms and biases of positions are float32.

    Raises:
      ValueError: if llama.cpp has no such network or vocabulary, or the file does not read
        back as it was written.
    """
    import gguf

    sizes = checkpoint.sizes
    vocabulary = _unigrams(folder, description)
    if sizes.mlp_activations not in _BLOCKS:
        raise ValueError(
            f"mlp_activations={sizes.mlp_activations!r}: llama.cpp's T5 has {' or '.join(map(str, _BLOCKS))}; export it --to "
            "ctranslate2 or huggingface."
        )
    path = folder / FILE
    writer = gguf.GGUFWriter(path, gguf.MODEL_ARCH_NAMES[gguf.MODEL_ARCH.T5])
    _add_sizes(writer, sizes, description)
    _add_vocabulary(writer, vocabulary, description, sizes.vocab_size)
    write_tensors(writer, path, dict(_tensors(gguf, checkpoint, dtype)), dtype=dtype)


def said_of_inputs(description: StudentDescription) -> str:
    """For whoever asks the student: what its inputs begin with."""
    return f"Inputs need the prefix {description.label_prefix!r}. Written by stepdistill-jax {__version__}."


def _unigrams(folder: Path, description: StudentDescription) -> Any:
    """The SentencePiece model."""
    file = description.vocabulary.file
    if file is None or description.vocabulary.kind == TOKENIZERS or is_bpe(folder / file):
        kind = "bytes" if file is None else "byte pairs"
        raise ValueError(
            f"The student's vocabulary is of {kind}; llama.cpp reads T5's of unigrams alone: export it --to ctranslate2 or "
            "huggingface."
        )
    return read_sentencepiece(folder / file)


def _add_sizes(writer: Any, sizes: T5Sizes, description: StudentDescription) -> None:
    writer.add_name(description.task)
    writer.add_description(said_of_inputs(description))
    writer.add_context_length(max(MAX_DISTANCE, *description.feature_lengths.values()))
    writer.add_embedding_length(sizes.emb_dim)
    writer.add_feed_forward_length(sizes.mlp_dim)
    writer.add_block_count(sizes.num_encoder_layers)
    writer.add_decoder_block_count(sizes.num_decoder_layers)
    writer.add_head_count(sizes.num_heads)
    writer.add_key_length(sizes.head_dim)
    writer.add_value_length(sizes.head_dim)
    writer.add_layer_norm_eps(_EPSILON)
    writer.add_layer_norm_rms_eps(_EPSILON)
    writer.add_relative_attn_buckets_count(NUM_BUCKETS)
    writer.add_decoder_start_token_id(_PAD_ID)


def _add_vocabulary(writer: Any, model: Any, description: StudentDescription, vocab_size: int) -> None:
    pieces = [(piece.piece, piece.score, piece.type) for piece in model.pieces]
    sentinels = reversed(range(description.vocabulary.extra_ids))
    pieces += [(f"<extra_id_{number}>", 0.0, _CONTROL) for number in sentinels]
    pieces += [(f"<unused_{token}>", -10_000.0, _UNUSED) for token in range(len(pieces), vocab_size)]
    names, scores, types = zip(*pieces, strict=True)
    writer.add_tokenizer_model("t5")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([name.encode() for name in names])
    writer.add_token_scores(scores)
    writer.add_token_types(types)
    writer.add_add_space_prefix(model.normalizer_spec.add_dummy_prefix)
    writer.add_remove_extra_whitespaces(model.normalizer_spec.remove_extra_whitespaces)
    if model.normalizer_spec.precompiled_charsmap:
        writer.add_precompiled_charsmap(model.normalizer_spec.precompiled_charsmap)
    writer.add_eos_token_id(model.trainer_spec.eos_id)
    writer.add_unk_token_id(model.trainer_spec.unk_id)
    writer.add_pad_token_id(_PAD_ID)
    writer.add_add_bos_token(False)
    writer.add_add_eos_token(True)


def _tensors(gguf: Any, checkpoint: T5Checkpoint, dtype: str) -> Iterator[tuple[str, np.ndarray]]:
    """(llama.cpp's name, numbers) of every parameter, which lie as in Hugging Face's files."""
    layers = max(checkpoint.sizes.num_encoder_layers, checkpoint.sizes.num_decoder_layers)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.T5, layers)
    for parameter, array in checkpoint.parameters:
        numbers = array.read().astype(FLOAT_DTYPES["float32"])
        numbers = np.ascontiguousarray(numbers.T if parameter.turned else numbers)
        if numbers.ndim > 1 and not parameter.name.endswith("rel_embedding"):
            numbers = cast(numbers, dtype, name=parameter.name)
        yield names.get_name(parameter.huggingface, try_suffixes=(".weight",)), numbers
