"""What a GGUF file says of its network, as the config.json that Hugging Face's folder of the same model has."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from stepdistill_jax.engine.model.llama_layers import rotary_frequencies
from stepdistill_jax.interop.decoder_only.huggingface_config import FAMILIES
from stepdistill_jax.interop.gguf_files.reading import ROPE_FREQUENCIES, GGUFFile
from stepdistill_jax.interop.lazy_array import FLOAT_DTYPES

# Llama 3.1's and 3.2's, whose factor alone differs; a GGUF file has what comes out of them, a divisor a frequency.
_LLAMA3 = {
    "rope_type": "llama3",
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
_WANTED = (
    "block_count",
    "embedding_length",
    "feed_forward_length",
    "attention.head_count",
    "attention.layer_norm_rms_epsilon",
)
# Of these, another value than the one that is here changes the numbers, and our network does not compute it.
_NEUTRAL = {
    "expert_count": 0,
    "attn_logit_softcapping": 0.0,
    "final_logit_softcapping": 0.0,
    "attention.causal": True,
    "attention.scale": 0.0,
    "attention.clamp_kqv": 0.0,
    "embedding_scale": 0.0,
    "residual_scale": 0.0,
    "logit_scale": 0.0,
}
# llama.cpp's own rule: Gemma 3 of 27B, told by its layers, scales queries by the width of all heads.
_LAYERS_OF_GEMMA_27B = 62


def config_of_gguf(file: GGUFFile) -> dict[str, Any]:
    """A config.json, with version 4's names.

    Raises:
      ValueError: for another architecture, or what our network does not compute.
    """
    family = FAMILIES.get(file.architecture)
    if family is None:
        raise ValueError(
            f"{file.path}: general.architecture={file.architecture!r}; we convert {', '.join(FAMILIES)} (SmolLM2 is 'llama')."
        )
    window = ["attention.sliding_window"] if file.architecture == "gemma3" else []
    lacking = [name for name in [*_WANTED, *window] if file.of_architecture(name) is None]
    if lacking or "token_embd.weight" not in file.tensors:
        raise ValueError(
            f"{file.path} lacks {', '.join(lacking) or 'token_embd.weight'}; take another conversion of the model."
        )
    _refuse(file)
    embedding, heads = file.of_architecture("embedding_length"), file.of_architecture("attention.head_count")
    head_dim = file.of_architecture("attention.key_length", embedding // heads)
    layers = file.of_architecture("block_count")
    config = {
        "model_type": family.model_type,
        "architectures": [family.architecture],
        "vocab_size": int(file.tensors["token_embd.weight"].shape[-1]),
        "hidden_size": embedding,
        "intermediate_size": file.of_architecture("feed_forward_length"),
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": file.of_architecture("attention.head_count_kv", heads),
        "head_dim": head_dim,
        "max_position_embeddings": file.of_architecture("context_length", 2048),
        "rms_norm_eps": _shortest(file.of_architecture("attention.layer_norm_rms_epsilon")),
        "rope_theta": _shortest(file.of_architecture("rope.freq_base", family.rope_theta)),
        "rope_scaling": _scaling(file, head_dim),
        "tie_word_embeddings": "output.weight" not in file.tensors,
        "torch_dtype": "float32",
    }
    if file.architecture != "gemma3":
        return config | {"hidden_act": "silu"}
    return config | {
        "hidden_activation": "gelu_pytorch_tanh",
        "query_pre_attn_scalar": embedding // heads if layers == _LAYERS_OF_GEMMA_27B else head_dim,
        "sliding_window": file.of_architecture("attention.sliding_window"),
        "sliding_window_pattern": file.of_architecture("attention.sliding_window_pattern", 6),
        "rope_local_base_freq": _shortest(file.of_architecture("rope.freq_base_swa", 10_000.0)),
    }


def _refuse(file: GGUFFile) -> None:
    refused = [
        f"{file.architecture}.{name}={value!r}"
        for name, neutral in _NEUTRAL.items()
        if (value := file.of_architecture(name, neutral)) != neutral
    ]
    refused += _scaled_positions(file)
    heads = file.of_architecture("attention.head_count")
    kv_heads = file.of_architecture("attention.head_count_kv", heads)
    if not isinstance(heads, int) or not isinstance(kv_heads, int):
        refused.append("heads that differ from layer to layer")
    elif min(heads, kv_heads) < 1 or heads % kv_heads:
        refused.append(f"{heads} heads of queries to {kv_heads} of keys")
    else:
        width = file.of_architecture(
            "attention.key_length", file.of_architecture("embedding_length") // heads
        )
        if file.of_architecture("rope.dimension_count", width) != width:
            refused.append(f"rope.dimension_count of a part of a head's {width} features")
    if not isinstance(file.of_architecture("attention.sliding_window_pattern", 6), int):
        refused.append(f"{file.architecture}.attention.sliding_window_pattern that is no number")
    if refused:
        raise ValueError(f"{file.path} has {'; '.join(refused)}, which our network does not compute.")


def _scaled_positions(file: GGUFFile) -> list[str]:
    """llama.cpp takes a factor without a kind for a linear one, and knows an older name of the factor."""
    factor = file.of_architecture("rope.scaling.factor") or file.of_architecture("rope.scale_linear") or 1.0
    scaling = file.of_architecture("rope.scaling.type", "linear")
    if scaling == "none" or factor == 1.0:
        return []
    return [f"{file.architecture}.rope.scaling.type={scaling!r} with a factor of {factor:g}"]


def _shortest(value: float) -> float:
    """9.999999747378752e-06, a float32, as 1e-05."""
    return float(str(np.float32(value)))


def _scaling(file: GGUFFile, head_dim: int) -> Mapping[str, Any] | None:
    """Llama 3's scaling, of which a file has the result.

    Raises:
      ValueError: if it comes of other settings than Llama 3's.
    """
    if ROPE_FREQUENCIES not in file.tensors:
        return None
    divisors = np.asarray(file.tensors[ROPE_FREQUENCIES].data, np.float32).reshape(-1)
    scaling = {**_LLAMA3, "factor": float(divisors.max(initial=1.0))}
    theta = file.of_architecture("rope.freq_base", FAMILIES["llama"].rope_theta)
    expected = llama3_divisors(scaling, theta=theta, head_dim=head_dim)
    if divisors.shape != expected.shape or not np.allclose(divisors, expected, rtol=1e-3):
        raise ValueError(
            f"{file.path}: {ROPE_FREQUENCIES} is not Llama 3's; take the model's Hugging Face folder, which says what it is."
        )
    return scaling


def llama3_divisors(scaling: Mapping[str, Any], *, theta: float, head_dim: int) -> np.ndarray:
    """float32 [head_dim / 2]: what each rotary frequency is divided by, as our network slows it."""
    scaled = rotary_frequencies(
        head_dim,
        theta=theta,
        factor=scaling["factor"],
        low_frequency_factor=scaling["low_freq_factor"],
        high_frequency_factor=scaling["high_freq_factor"],
        original_length=scaling["original_max_position_embeddings"],
    )
    return (rotary_frequencies(head_dim, theta=theta) / scaled).astype(FLOAT_DTYPES["float32"])
