"""A GGUF file: what it says of itself, and its tensors, dequantised when they are read, under Hugging Face's names.

llama.cpp's Llama turns neighbouring features by rotary positions, Hugging Face's and ours turn a head's first half with its second.
So its files have the rows of queries and keys in another order within each head, which is undone here; other families' are as they
were. Norms of Gemma are kept plus 1 there, which is undone likewise.
"""

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from stepdistill_jax.interop.gguf_files.parts import joined, part_paths
from stepdistill_jax.interop.lazy_array import FLOAT_DTYPES, LazyArray

# Of a file that is damaged, gguf's reader raises whatever its numbers lead to.
_DAMAGE = (ValueError, IndexError, KeyError, TypeError, OverflowError, MemoryError, AttributeError)
_WHOLE = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output.weight": "lm_head.weight",
    "output_norm.weight": "model.norm.weight",
}
_OF_LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_OF_GEMMA_LAYER = _OF_LAYER | {
    "ffn_norm": "pre_feedforward_layernorm",
    "post_attention_norm": "post_attention_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}
ROPE_FREQUENCIES = "rope_freqs.weight"  # of Llama 3: no parameter, but how its rotary positions are scaled
_LAYER = re.compile(r"blk\.(\d+)\.(\w+)\.(weight|bias)")


@dataclasses.dataclass(frozen=True)
class GGUFFile:
    """Attributes:
    path: of the file.
    fields: what it says of itself, by GGUF's names.
    tensors: gguf's own records, by GGUF's names.
    """

    path: Path
    fields: Mapping[str, Any]
    tensors: Mapping[str, Any]

    @property
    def architecture(self) -> str:
        return str(self.fields.get("general.architecture"))

    def of_architecture(self, name: str, otherwise: Any = None) -> Any:
        """'block_count': the field of that name below the architecture's."""
        return self.fields.get(f"{self.architecture}.{name}", otherwise)


def open_gguf(path: Path) -> GGUFFile:
    """Reads all but the tensors' numbers; of a model in parts, all of them, whichever is named.

    Raises:
      FileNotFoundError: if there is no such file, or not every part.
      ValueError: if it is damaged, cut short, of the other byte order, or no GGUF file.
    """
    file = _open_part(path)
    paths = part_paths(path, file.fields)
    if len(paths) == 1:
        return file
    files = [_open_part(part) for part in paths]
    tensors = joined(paths, [part.fields for part in files], [part.tensors for part in files])
    return GGUFFile(path, files[0].fields, tensors)


def _open_part(path: Path) -> GGUFFile:
    import gguf

    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    try:
        reader = gguf.GGUFReader(path)
        fields = {name: field.contents() for name, field in reader.fields.items()}
        tensors = {tensor.name: tensor for tensor in reader.tensors}
    except _DAMAGE as error:
        cause = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{path} is no whole GGUF file ({cause}); fetch it again.") from error
    if reader.byte_order != "I":  # gguf swaps the header's numbers, not what it dequantises
        raise ValueError(
            f"{path} is written for machines of the other byte order (big-endian); take the model's usual file."
        )
    return GGUFFile(path, fields, tensors)


def huggingface_tensors(file: GGUFFile) -> dict[str, LazyArray]:
    """Every tensor under Hugging Face's name and in its order; one that has none keeps its own.

    Raises:
      ValueError: for numbers that gguf does not dequantise.
    """
    is_gemma = file.architecture == "gemma3"
    names = _OF_GEMMA_LAYER if is_gemma else _OF_LAYER
    heads = {
        "attn_q": file.of_architecture("attention.head_count"),
        "attn_k": file.of_architecture(
            "attention.head_count_kv", file.of_architecture("attention.head_count")
        ),
    }
    found = {}
    for name, tensor in file.tensors.items():
        if name == ROPE_FREQUENCIES:
            continue
        layer = _LAYER.fullmatch(name)
        known = _WHOLE.get(name)
        order = None
        if layer and layer[2] in names:
            known = f"model.layers.{layer[1]}.{names[layer[2]]}.{layer[3]}"
            rows = int(tensor.shape[-1])
            turned = file.architecture == "llama" and layer[2] in heads
            if turned and rows % (2 * heads[layer[2]]) == 0:  # other sizes are refused with the rest
                order = rows_of_halves(rows, heads[layer[2]])
        shift = -1.0 if is_gemma and name.endswith("norm.weight") else 0.0
        found[known or name] = _lazy(file.path, tensor, order=order, shift=shift)
    return found


def gguf_name(huggingface: str, *, is_gemma: bool) -> str:
    """'blk.0.attn_q.weight' of 'model.layers.0.self_attn.q_proj.weight'."""
    for name, known in _WHOLE.items():
        if known == huggingface:
            return name
    _, _, layer, *block, kind = huggingface.split(".")
    names = {known: name for name, known in (_OF_GEMMA_LAYER if is_gemma else _OF_LAYER).items()}
    return f"blk.{layer}.{names['.'.join(block)]}.{kind}"


def rows_of_halves(num_rows: int, num_heads: int) -> np.ndarray:
    """int [rows]: which of llama.cpp's rows is each of Hugging Face's: all first features of a head's pairs, then all second ones."""
    pairs = np.arange(num_rows).reshape(num_heads, -1, 2)
    return pairs.swapaxes(1, 2).reshape(-1)


def rows_of_pairs(num_rows: int, num_heads: int) -> np.ndarray:
    """int [rows]: which of Hugging Face's rows is each of llama.cpp's; undone by `rows_of_halves`."""
    halves = np.arange(num_rows).reshape(num_heads, 2, -1)
    return halves.swapaxes(1, 2).reshape(-1)


def _lazy(path: Path, tensor: Any, *, order: np.ndarray | None, shift: float) -> LazyArray:
    import gguf

    kind, quants = tensor.tensor_type, gguf.GGMLQuantizationType
    shape = tuple(int(size) for size in reversed(tensor.shape))
    plain = {quants.F32: "float32", quants.F16: "float16", quants.BF16: "bfloat16"}
    dtype = FLOAT_DTYPES[plain.get(kind, "float32")]

    def read_rows(start: int, stop: int) -> np.ndarray:
        rows = tensor.data[start:stop] if order is None else tensor.data[order[start:stop]]
        if kind in plain:
            numbers = np.array(rows).view(dtype)
        else:
            numbers = gguf.quants.dequantize(np.ascontiguousarray(rows), kind)
        numbers = numbers.reshape(stop - start, *shape[1:])
        return numbers + np.asarray(shift, dtype) if shift else numbers

    try:
        read_rows(0, 1)
    except NotImplementedError as error:
        raise ValueError(
            f"{path}: {tensor.name} is of {kind.name}, which the gguf package does not dequantise; take a file of F16, Q8_0 or Q4_K."
        ) from error
    return LazyArray(
        shape=shape, dtype=dtype, read_rows=read_rows, source=None if shift else (str(path), tensor.name)
    )
