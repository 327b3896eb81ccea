"""Small GGUF files, made by the package gguf."""

import gguf
import numpy as np
from small_vocabulary import END, START


def write_file(
    path,
    *,
    architecture="llama",
    quantization=None,
    edit=lambda writer: None,
    embed=64,
    mlp=96,
    vocab=300,
    **fields,
):
    """A GGUF file of one layer, its matrices quantised; returns them as they come back of that.

    Args:
      quantization: of all matrices, or a function of a tensor's name. Of a kind that gguf cannot quantise, blocks are random bits.
      edit: of the gguf.GGUFWriter, before its tensors.
      fields: of the architecture, beside the sizes or in their place.
    """
    rng = np.random.default_rng(0)
    shapes = {"token_embd": (vocab, embed), "output_norm": (embed,)}
    shapes |= {f"blk.0.attn_{x}": (n, embed) for x, n in (("q", embed), ("k", embed // 2), ("v", embed // 2))}
    shapes |= {"blk.0.attn_output": (embed, embed)}
    shapes |= {"blk.0.attn_norm": (embed,), "blk.0.ffn_norm": (embed,), "blk.0.ffn_down": (embed, mlp)}
    shapes |= {"blk.0.ffn_gate": (mlp, embed), "blk.0.ffn_up": (mlp, embed)}
    writer = gguf.GGUFWriter(path, architecture)
    settings = {
        "block_count": 1,
        "embedding_length": embed,
        "feed_forward_length": mlp,
        "attention.head_count": 4,
        "attention.head_count_kv": 2,
    } | fields
    for name, value in settings.items():
        add = writer.add_float32 if isinstance(value, float) else writer.add_uint32
        add(f"{architecture}.{name}", value)
    writer.add_layer_norm_rms_eps(1e-5)
    letters = [chr(code) for code in range(0x21, 0x7F)] + ["Ġ", "ab"]
    tokens = [START, END, *letters]
    tokens += [f"[{i}]" for i in range(vocab - len(tokens))]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([3, 3, *[1] * (vocab - 2)])
    writer.add_token_merges(["a b"])
    writer.add_eos_token_id(1)
    edit(writer)
    read = {}
    for name, shape in shapes.items():
        kind = quantization(name) if callable(quantization) else quantization
        numbers = rng.normal(size=shape).astype(np.float32)
        if kind is None or numbers.ndim == 1 or shape[-1] % gguf.GGML_QUANT_SIZES[kind][0]:
            writer.add_tensor(f"{name}.weight", numbers)
        else:
            packed = _quantised(numbers, kind, rng)
            writer.add_tensor(f"{name}.weight", packed, raw_dtype=kind)
            numbers = gguf.quants.dequantize(packed, kind)
        read[name] = numbers
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return read


def _quantised(numbers, kind, rng):
    try:
        return gguf.quants.quantize(numbers, kind)
    except NotImplementedError:
        size, num_bytes = gguf.GGML_QUANT_SIZES[kind]
        # Below 64 no two bytes are an infinite half.
        return rng.integers(0, 64, size=(len(numbers), numbers.shape[-1] // size * num_bytes), dtype=np.uint8)
