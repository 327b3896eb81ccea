"""Small Hugging Face folders of decoder-only families, made from Hugging Face's names without transformers or torch."""

import numpy as np
from huggingface_folders import DTYPES

SIZES = {
    "vocab_size": 320,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5,
}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
FAMILIES = {
    "smollm2": {
        "model_type": "llama",
        "tie_word_embeddings": True,
        "rope_theta": 100000,
        "hidden_act": "silu",
    },
    "llama3": {
        "model_type": "llama",
        "tie_word_embeddings": False,
        "rope_theta": 5e5,
        "rope_scaling": LLAMA3,
    },
    "llama3_of_version_5": {
        "model_type": "llama",
        "tie_word_embeddings": False,
        "rope_parameters": {**LLAMA3, "rope_theta": 5e5},
    },
    "qwen2": {"model_type": "qwen2", "use_sliding_window": False, "sliding_window": 32, "rope_theta": 1e6},
    "qwen3": {"model_type": "qwen3", "head_dim": 6, "tie_word_embeddings": True, "rope_theta": 1e6},
    "gemma3": {
        "model_type": "gemma3_text",
        "head_dim": 6,
        "num_hidden_layers": 3,
        "hidden_activation": "gelu_pytorch_tanh",
        "query_pre_attn_scalar": 8,
        "sliding_window": 4,
        "sliding_window_pattern": 3,
        "rope_theta": 1e6,
        "rope_local_base_freq": 1e4,
    },
}


def decoder_config(family, **changes):
    return {**SIZES, **FAMILIES[family], **changes}


def decoder_tensors(config, dtype="float32", seed=0):
    """{Hugging Face's name: random numbers} of a model, as its config says."""
    embed, mlp, vocab = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    kind = config["model_type"]
    head = config.get("head_dim", embed // config["num_attention_heads"])
    inner, shared = config["num_attention_heads"] * head, config["num_key_value_heads"] * head
    shapes = {"model.embed_tokens.weight": (vocab, embed), "model.norm.weight": (embed,)}
    if not config.get("tie_word_embeddings", kind == "gemma3_text"):
        shapes["lm_head.weight"] = (vocab, embed)
    norms = ["input_layernorm", "post_attention_layernorm"]
    norms += ["pre_feedforward_layernorm", "post_feedforward_layernorm"] * (kind == "gemma3_text")
    for i in range(config["num_hidden_layers"]):
        at = f"model.layers.{i}"
        shapes |= {f"{at}.{norm}.weight": (embed,) for norm in norms}
        shapes |= {
            f"{at}.self_attn.{x}_proj.weight": (n, embed)
            for x, n in zip("qkv", (inner, shared, shared), strict=True)
        }
        shapes |= {f"{at}.self_attn.o_proj.weight": (embed, inner)}
        if kind == "qwen2":
            shapes |= {
                f"{at}.self_attn.{x}_proj.bias": (n,)
                for x, n in zip("qkv", (inner, shared, shared), strict=True)
            }
        if kind in ("qwen3", "gemma3_text"):
            shapes |= {f"{at}.self_attn.{x}_norm.weight": (head,) for x in "qk"}
        shapes |= {f"{at}.mlp.{x}_proj.weight": (mlp, embed) for x in ("gate", "up")}
        shapes |= {f"{at}.mlp.down_proj.weight": (embed, mlp)}
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=shape).astype(DTYPES[dtype]) for name, shape in sorted(shapes.items())}
