"""A decoder-only student as a GGUF file for llama.cpp, read back before it counts; in memory is the whole model."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from stepdistill_jax.interop.decoder_only.decoder_checkpoint import DecoderCheckpoint
from stepdistill_jax.interop.decoder_only.huggingface_config import config_of_sizes
from stepdistill_jax.interop.decoder_only.sizes import DecoderSizes
from stepdistill_jax.interop.decoder_only.text_tokens import TextTokens
from stepdistill_jax.interop.gguf_files import reading
from stepdistill_jax.interop.gguf_files.sentencepiece_tokenizer import CONTROL, NORMAL, UNUSED, USER_DEFINED
from stepdistill_jax.interop.gguf_files.settings import llama3_divisors
from stepdistill_jax.interop.gguf_files.tokenizer import BYTE_PAIRS, PRE_TOKENIZERS
from stepdistill_jax.interop.lazy_array import FLOAT_DTYPES, cast

DTYPES = ("float16", "float32")
_CONTEXT = 8192  # tokens, where nothing says how many the model knows


def write_decoder_gguf(
    checkpoint: DecoderCheckpoint,
    path: Path,
    *,
    dtype: str = "float16",
    name: str = "",
    description: str = "",
    context_length: int = _CONTEXT,
) -> None:
    """Writes the file that llama.cpp loads: tensors, sizes and tokenizer.

    Our students see the token that starts a text before their inputs, so llama.cpp is told to add it; inputs end with the token that
    ends them, which it is not.

    Args:
      path: of a file that is not there yet.
      dtype: of the matrices, 'float16' or 'float32'; norms and biases are float32.
      name, description: for whoever reads the file's own words.
      context_length: tokens that a text may have.

    Raises:
      ValueError: if llama.cpp has no such network or tokenizer, or the file does not read back as it was written.
    """
    import gguf

    if dtype not in DTYPES:
        raise ValueError(f"dtype={dtype!r}; a GGUF file is written as {' or '.join(DTYPES)}.")
    if checkpoint.tokenizer is None or checkpoint.tokens is None:
        raise ValueError(
            "The student has no tokenizer.json, without which llama.cpp reads no text; name it by --vocabulary."
        )
    sizes = checkpoint.sizes
    config_of_sizes(sizes, dtype=dtype)  # refuses what no family of Hugging Face's, and so of llama.cpp's, is
    content = json.loads(checkpoint.tokenizer.read_text(encoding="utf-8"))
    writer = gguf.GGUFWriter(path, sizes.family)
    writer.add_name(name or sizes.family)
    writer.add_description(description)
    writer.add_context_length(context_length)
    _add_sizes(writer, sizes)
    _add_tokenizer(writer, content, checkpoint.tokens, sizes.vocab_size, where=checkpoint.tokenizer)
    write_tensors(writer, path, dict(_tensors(checkpoint, dtype)), dtype=dtype)


def write_tensors(writer: Any, path: Path, tensors: Mapping[str, np.ndarray], *, dtype: str) -> None:
    """Ends a file with its tensors, and reads them back.

    Args:
      writer: a gguf.GGUFWriter of `path`, which has been told all else.
      dtype: of the matrices, 'float16' or 'float32'.

    Raises:
      ValueError: if the file does not read back as it was written.
    """
    import gguf

    half = dtype == "float16"
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16 if half else gguf.LlamaFileType.ALL_F32)
    for name, numbers in tensors.items():
        writer.add_tensor(name, numbers)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    _read_back(path, tensors)


def _add_sizes(writer: Any, sizes: DecoderSizes) -> None:
    writer.add_block_count(sizes.num_layers)
    writer.add_embedding_length(sizes.emb_dim)
    writer.add_feed_forward_length(sizes.mlp_dim)
    writer.add_head_count(sizes.num_heads)
    writer.add_head_count_kv(sizes.num_kv_heads)
    writer.add_key_length(sizes.head_dim)
    writer.add_value_length(sizes.head_dim)
    writer.add_layer_norm_rms_eps(sizes.norm_epsilon)
    writer.add_rope_freq_base(sizes.rope_theta)
    writer.add_rope_dimension_count(sizes.head_dim)
    writer.add_vocab_size(sizes.vocab_size)
    if sizes.sliding_window:
        writer.add_sliding_window(sizes.sliding_window)


def _add_tokenizer(
    writer: Any, content: Mapping[str, Any], tokens: TextTokens, vocab_size: int, *, where: Path
) -> None:
    model = content["model"]
    if model.get("type") != "BPE" or not model.get("merges"):
        raise ValueError(
            f"{where} is of {model.get('type')}; llama.cpp gets pairs of bytes alone from here: export it --to huggingface."
        )
    names = {index: piece for piece, index in model["vocab"].items()}
    types = dict.fromkeys(names, NORMAL)
    for token in content["added_tokens"]:
        names[token["id"]] = token["content"]
        special = token["special"] or token["id"] in (tokens.start_id, tokens.end_id)
        types[token["id"]] = CONTROL if special else USER_DEFINED
    if max(names) >= vocab_size:
        names = {index: piece for index, piece in names.items() if index < vocab_size}
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    writer.add_tokenizer_model(BYTE_PAIRS)
    writer.add_tokenizer_pre(_pre_tokenizer(content, where))
    writer.add_token_list([names.get(token, f"[PAD{token}]").encode() for token in range(vocab_size)])
    writer.add_token_types([types.get(token, UNUSED) for token in range(vocab_size)])
    writer.add_token_merges(merges)
    writer.add_bos_token_id(tokens.start_id)
    writer.add_eos_token_id(tokens.end_id)
    writer.add_pad_token_id(tokens.start_id)
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(False)
    writer.add_add_space_prefix(False)


def _pre_tokenizer(content: Mapping[str, Any], where: Path) -> str:
    """llama.cpp's name of how a text is cut before pairs are merged."""
    found = content.get("pre_tokenizer") or {}
    steps = found.get("pretokenizers", [found])
    # Offsets have no say in ids.
    cut = [{name: value for name, value in step.items() if name != "trim_offsets"} for step in steps]
    for name, known in PRE_TOKENIZERS.items():
        if cut == [{key: value for key, value in step.items() if key != "trim_offsets"} for step in known]:
            return name
    raise ValueError(
        f"{where} cuts a text in a way that llama.cpp has no name for here (we know {', '.join(PRE_TOKENIZERS)}); export it --to "
        "huggingface."
    )


def _tensors(checkpoint: DecoderCheckpoint, dtype: str) -> Iterator[tuple[str, np.ndarray]]:
    sizes = checkpoint.sizes
    is_gemma = sizes.family == "gemma3"
    if sizes.rope_factor != 1.0:
        scaling = {
            "factor": sizes.rope_factor,
            "low_freq_factor": sizes.rope_low_frequency_factor,
            "high_freq_factor": sizes.rope_high_frequency_factor,
            "original_max_position_embeddings": sizes.rope_original_length,
        }
        divisors = llama3_divisors(scaling, theta=sizes.rope_theta, head_dim=sizes.head_dim)
        yield reading.ROPE_FREQUENCIES, divisors
    heads = {"attn_q": sizes.num_heads, "attn_k": sizes.num_kv_heads}
    for parameter, array in checkpoint.parameters:
        name = reading.gguf_name(parameter.huggingface, is_gemma=is_gemma)
        numbers = array.read().astype(FLOAT_DTYPES["float32"])
        numbers = np.ascontiguousarray(numbers.T if parameter.turned else numbers)
        block = name.split(".")[-2]
        if sizes.family == "llama" and block in heads:
            numbers = numbers[reading.rows_of_pairs(len(numbers), heads[block])]
        if is_gemma and name.endswith("norm.weight"):
            numbers += 1.0
        yield name, cast(numbers, dtype, name=parameter.name) if numbers.ndim > 1 else numbers


def _read_back(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    found = {name: tensor.data for name, tensor in reading.open_gguf(path).tensors.items()}
    wrong = [name for name, numbers in tensors.items() if not np.array_equal(found.get(name), numbers)]
    if wrong or found.keys() != tensors.keys():
        raise ValueError(
            f"{path} does not read back as it was written: {', '.join(wrong) or 'other tensors'}."
        )
