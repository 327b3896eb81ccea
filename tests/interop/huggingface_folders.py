"""Small Hugging Face folders of every family, made from Hugging Face's names without transformers or torch."""

import json
from pathlib import Path

import ml_dtypes
import numpy as np
from safetensors.numpy import save_file

DTYPES = {"float32": np.float32, "bfloat16": ml_dtypes.bfloat16, "float16": np.float16}
# As the public models' config.json tell them apart, sizes apart.
FAMILIES = {
    "t5": {"model_type": "t5", "architectures": ["T5ForConditionalGeneration"], "n_positions": 512},
    "t5_1_1": {"model_type": "t5", "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
    "flan_t5": {
        "model_type": "t5",
        "feed_forward_proj": "gated-gelu",
        "tie_word_embeddings": False,
        "n_positions": 512,
        "dense_act_fn": "gelu_new",
        "is_gated_act": True,
    },
    "mt5": {"model_type": "mt5", "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
    "byt5": {
        "model_type": "t5",
        "feed_forward_proj": "gated-gelu",
        "tie_word_embeddings": False,
        "vocab_size": 384,
        "num_layers": 3,
        "num_decoder_layers": 1,
        "tokenizer_class": "ByT5Tokenizer",
    },
    "umt5": {"model_type": "umt5", "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
    "ul2": {"model_type": "t5", "feed_forward_proj": "gated-silu", "tie_word_embeddings": False},
}
SIZES = {
    "vocab_size": 96,
    "d_model": 8,
    "d_kv": 3,
    "d_ff": 12,
    "num_heads": 2,
    "num_layers": 2,
    "num_decoder_layers": 3,
    "dropout_rate": 0.1,
    "layer_norm_epsilon": 1e-06,
    "relative_attention_num_buckets": 32,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "decoder_start_token_id": 0,
    "is_encoder_decoder": True,
}


def config_of(family, **changes):
    return {**SIZES, **FAMILIES[family], **changes}


def tensors_of(config, dtype="float32", seed=0):
    """{Hugging Face's name: random numbers} of a model, as its config says."""
    rng = np.random.default_rng(seed)
    embed, inner, mlp = config["d_model"], config["num_heads"] * config["d_kv"], config["d_ff"]
    gated = config.get("feed_forward_proj", "relu").startswith("gated")
    shapes = {"shared.weight": (config["vocab_size"], embed)}
    if not config.get("tie_word_embeddings", True):
        shapes["lm_head.weight"] = (config["vocab_size"], embed)
    for stack, layers in (("encoder", config["num_layers"]), ("decoder", config["num_decoder_layers"])):
        kinds = ["SelfAttention"] if stack == "encoder" else ["SelfAttention", "EncDecAttention"]
        shapes[f"{stack}.final_layer_norm.weight"] = (embed,)
        for i in range(layers):
            for block, kind in enumerate(kinds):
                at = f"{stack}.block.{i}.layer.{block}"
                shapes |= {f"{at}.{kind}.{letter}.weight": (inner, embed) for letter in "qkv"}
                shapes |= {f"{at}.{kind}.o.weight": (embed, inner), f"{at}.layer_norm.weight": (embed,)}
            if i == 0 or config["model_type"] == "umt5":
                bias = f"{stack}.block.{i}.layer.0.SelfAttention.relative_attention_bias.weight"
                shapes[bias] = (32, config["num_heads"])
            at = f"{stack}.block.{i}.layer.{len(kinds)}"
            for name in ("wi_0", "wi_1") if gated else ("wi",):
                shapes[f"{at}.DenseReluDense.{name}.weight"] = (mlp, embed)
            shapes |= {f"{at}.DenseReluDense.wo.weight": (embed, mlp), f"{at}.layer_norm.weight": (embed,)}
    return {name: rng.normal(size=shape).astype(DTYPES[dtype]) for name, shape in sorted(shapes.items())}


def write_folder(folder: Path, config, tensors, *, shards=1):
    """Writes config.json and the tensors into so many safetensors files."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    names = list(tensors)
    if shards == 1:
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        return folder
    weight_map = {
        name: f"model-{i % shards + 1:05d}-of-{shards:05d}.safetensors" for i, name in enumerate(names)
    }
    for file in sorted(set(weight_map.values())):
        save_file({name: tensors[name] for name in names if weight_map[name] == file}, folder / file)
    index = {"metadata": {"total_size": 0}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    return folder
