"""config.json of a decoder-only family, to our sizes and back.

transformers 4 has `rope_theta` and `rope_scaling`, version 5 `rope_parameters` in their place, of Gemma 3 one a kind of layer. Both are
read; what is written has version 4's names, which version 5 reads too.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from stepdistill_jax.interop.decoder_only.sizes import DecoderSizes

Config = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Family:
    """What transformers takes for granted of a family, beside what its config.json says.

    Attributes:
      model_type, architecture: of config.json.
      rope_theta: where config.json has none.
      tied: whether the output layer is the embedding, where config.json does not say.
      fixed: sizes that the family has by its architecture.
    """

    model_type: str
    architecture: str
    rope_theta: float = 10_000.0
    tied: bool = False
    fixed: Mapping[str, Any] = dataclasses.field(default_factory=dict)


FAMILIES = {
    "llama": Family("llama", "LlamaForCausalLM"),
    "qwen2": Family("qwen2", "Qwen2ForCausalLM", fixed={"attention_bias": True}),
    "qwen3": Family("qwen3", "Qwen3ForCausalLM", fixed={"query_key_norm": True}),
    "gemma3": Family(
        "gemma3_text",
        "Gemma3ForCausalLM",
        rope_theta=1_000_000.0,
        tied=True,
        fixed={
            "query_key_norm": True,
            "post_norms": True,
            "norm_offset": 1.0,
            "embedding_scale": True,
        },
    ),
}
MODEL_TYPES = {family.model_type: name for name, family in FAMILIES.items()}
# Hugging Face's names of activations -> flax.linen's, whose gelu is the approximation by tanh.
_ACTIVATIONS = {"silu": "silu", "swish": "silu", "gelu_pytorch_tanh": "gelu", "gelu_new": "gelu"}
_ACTIVATION_NAMES = {"silu": "silu", "gelu": "gelu_pytorch_tanh"}
_SIZES = {
    "vocab_size": "vocab_size",
    "emb_dim": "hidden_size",
    "num_heads": "num_attention_heads",
    "num_layers": "num_hidden_layers",
    "mlp_dim": "intermediate_size",
}
_LLAMA3 = {
    "rope_factor": "factor",
    "rope_low_frequency_factor": "low_freq_factor",
    "rope_high_frequency_factor": "high_freq_factor",
    "rope_original_length": "original_max_position_embeddings",
}
_LOCAL, _GLOBAL = "sliding_attention", "full_attention"


def sizes_of_config(config: Config, *, where: str) -> DecoderSizes:
    """The sizes that a config.json states.

    Args:
      config: its content, of one of FAMILIES.
      where: the file, for errors.

    Raises:
      ValueError: lists everything in it that our network does not compute.
    """
    name = MODEL_TYPES[config["model_type"]]
    family = FAMILIES[name]
    problems = _refused(config)
    sizes = {ours: _whole(config, theirs, problems) for ours, theirs in _SIZES.items()}
    sizes["num_kv_heads"] = _whole(config, "num_key_value_heads", problems, otherwise=sizes["num_heads"])
    by_division = sizes["emb_dim"] // sizes["num_heads"]
    sizes["head_dim"] = _whole(
        config, "head_dim", problems, otherwise={"qwen3": 128, "gemma3": 256}.get(name, by_division)
    )
    activation = config.get("hidden_activation") or config.get("hidden_act") or "silu"
    if activation not in _ACTIVATIONS:
        problems.append(f"hidden_act={activation!r} is none of {', '.join(_ACTIVATIONS)}")
    rope = _rope_of(config, family, problems)
    if name == "gemma3":
        sizes |= _local_layers(config, sizes["num_layers"], problems)
        sizes["query_scale"] = float(config.get("query_pre_attn_scalar", 256)) ** -0.5
    if problems:
        raise ValueError(f"{where} cannot be converted: {'; '.join(problems)}.")
    tied = config.get("tie_word_embeddings")
    return DecoderSizes(
        **sizes,
        **family.fixed,
        **rope,
        mlp_activations=(_ACTIVATIONS[activation], "linear"),
        logits_via_embedding=family.tied if tied is None else bool(tied),
        norm_epsilon=float(config.get("rms_norm_eps", 1e-6)),
    )


def _whole(config: Config, name: str, problems: list[str], *, otherwise: int | None = None) -> int:
    value = config.get(name)
    value = otherwise if value is None else value
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        problems.append(f"{name}={value!r} is no size")
        return 1
    return value


def _refused(config: Config) -> list[str]:
    """What the family may have and our network does not compute."""
    problems = [
        f"{name}={config[name]!r}, which our network does not compute"
        for name in (
            "attention_bias",  # of these families', it has a bias of the output, too
            "mlp_bias",
            "attn_logit_softcapping",
            "final_logit_softcapping",
            "use_bidirectional_attention",
            "quantization_config",
        )
        if config.get(name)
    ]
    windowed = config.get("use_sliding_window") or _LOCAL in (config.get("layer_types") or ())
    if windowed and config["model_type"] != "gemma3_text":
        problems.append("use_sliding_window=True, which our network computes of Gemma 3 alone")
    return problems


def _rope_of(config: Config, family: Family, problems: list[str]) -> dict[str, Any]:
    """Rotary positions' settings under our names."""
    said = dict(config.get("rope_scaling") or config.get("rope_parameters") or {})
    nested = {kind: said.pop(kind) or {} for kind in (_LOCAL, _GLOBAL) if kind in said}
    said = nested.get(_GLOBAL, said)
    kind = said.get("rope_type", said.get("type", "default"))
    theta = said.get("rope_theta", config.get("rope_theta", family.rope_theta))
    if not isinstance(theta, int | float) or theta <= 0:
        problems.append(f"rope_theta={theta!r} is no base of rotary positions")
        theta = family.rope_theta
    found: dict[str, Any] = {"rope_theta": float(theta)}
    if family.model_type == "gemma3_text":
        local = nested.get(_LOCAL, {})
        if (of_local := local.get("rope_type", "default")) != "default":
            problems.append(f"rope_type={of_local!r} of local layers; it may be 'default'")
        found["local_rope_theta"] = float(
            local.get("rope_theta", config.get("rope_local_base_freq", 10_000.0))
        )
    if (partial := said.get("partial_rotary_factor", config.get("partial_rotary_factor", 1.0))) != 1.0:
        problems.append(f"partial_rotary_factor={partial}; our network turns whole heads")
    if kind == "llama3":
        missing = [theirs for theirs in _LLAMA3.values() if theirs not in said]
        if missing:
            problems.append(f"rope_scaling lacks {', '.join(missing)}")
        else:
            found |= {
                ours: int(said[theirs]) if ours == "rope_original_length" else float(said[theirs])
                for ours, theirs in _LLAMA3.items()
            }
    elif kind != "default":
        problems.append(f"rope_type={kind!r} has no equal here; it may be 'default' or 'llama3'")
    return found


def _local_layers(config: Config, num_layers: int, problems: list[str]) -> dict[str, Any]:
    """Gemma's windows: how long, and how often a layer has none."""
    kinds = config.get("layer_types")
    every = config.get("sliding_window_pattern") or config.get("_sliding_window_pattern") or 6
    if kinds is not None and _GLOBAL in kinds:
        every = list(kinds).index(_GLOBAL) + 1
    if kinds is not None and list(kinds) != layer_kinds(num_layers, every):
        problems.append(f"layer_types={kinds!r}; our network has every {every}th layer global")
    window = config.get("sliding_window", 4096)
    return {"sliding_window": window, "global_every": every}


def layer_kinds(num_layers: int, global_every: int) -> list[str]:
    """Gemma 3's `layer_types`."""
    return [_LOCAL if (layer + 1) % global_every else _GLOBAL for layer in range(num_layers)]


def config_of_sizes(
    sizes: DecoderSizes, *, dtype: str, like: Config | None = None, ids: Mapping[str, int] | None = None
) -> dict[str, Any]:
    """The config.json of a network, readable by transformers 4 and 5.

    Args:
      dtype: of the weights, 'float32', 'bfloat16' or 'float16'.
      like: a config.json whose other settings are kept, such as that of the model that training began with.
      ids: 'bos_token_id', 'eos_token_id' and 'pad_token_id' in Hugging Face's vocabulary, where `like` has none, or ends otherwise.

    Raises:
      ValueError: if transformers has no such network, or `like` is of other sizes.
    """
    family = FAMILIES[sizes.family]
    activation = _ACTIVATION_NAMES.get(sizes.mlp_activations[0])
    if activation is None or sizes.mlp_activations[1:] != ("linear",):
        raise ValueError(
            f"mlp_activations={sizes.mlp_activations!r}: transformers has ('silu', 'linear') or ('gelu', 'linear')."
        )
    unlike = {name: value for name, value in family.fixed.items() if getattr(sizes, name) != value}
    if unlike or (sizes.sliding_window and sizes.family != "gemma3"):
        raise ValueError(
            f"A {sizes.family} has {unlike or 'no sliding_window'} in transformers; this one has not."
        )
    if like is not None:
        _check_like(sizes, like)
    config: dict[str, Any] = {"max_position_embeddings": sizes.rope_original_length or 8192}
    config |= {name: value for name, value in (like or {}).items() if name not in ("torch_dtype", "dtype")}
    config |= _ids_to_set(config, ids or {})
    config |= {
        "architectures": [family.architecture],
        "model_type": family.model_type,
        **{theirs: getattr(sizes, ours) for ours, theirs in _SIZES.items()},
        "num_key_value_heads": sizes.num_kv_heads,
        "head_dim": sizes.head_dim,
        "rms_norm_eps": sizes.norm_epsilon,
        "rope_theta": sizes.rope_theta,
        "rope_scaling": _scaling_of(sizes),
        "tie_word_embeddings": sizes.logits_via_embedding,
        "torch_dtype": dtype,
    }
    if sizes.family != "gemma3":
        return config | {"hidden_act": activation}
    config |= {
        "hidden_activation": activation,
        "query_pre_attn_scalar": round((sizes.query_scale or sizes.head_dim**-0.5) ** -2),
        "sliding_window": sizes.sliding_window,
        "sliding_window_pattern": sizes.global_every,
        "layer_types": layer_kinds(sizes.num_layers, sizes.global_every),
        "rope_local_base_freq": sizes.local_rope_theta,
    }
    return config


def _ids_to_set(config: Config, ids: Mapping[str, int]) -> dict[str, int]:
    """Those of `ids` that `config` lacks, and the student's end where the model that it began with ends at other tokens."""
    missing = {name: number for name, number in ids.items() if config.get(name) is None}
    own = config.get("eos_token_id")
    ends = own if isinstance(own, list) else [own]
    return missing | {
        name: number for name, number in ids.items() if name == "eos_token_id" and number not in ends
    }


def _scaling_of(sizes: DecoderSizes) -> dict[str, Any] | None:
    if sizes.rope_factor == 1.0:
        return None
    return {"rope_type": "llama3", **{theirs: getattr(sizes, ours) for ours, theirs in _LLAMA3.items()}}


def _check_like(sizes: DecoderSizes, like: Config) -> None:
    if like.get("model_type") not in MODEL_TYPES:
        raise ValueError(
            f"The Hugging Face folder to be like has model_type={like.get('model_type')!r}, the checkpoint is a {sizes.family}."
        )
    of_like = sizes_of_config(like, where="config.json")
    listed = [
        f"{name} is {getattr(of_like, name)!r}, the checkpoint has {getattr(sizes, name)!r}"
        for name in vars(sizes)
        if getattr(sizes, name) != getattr(of_like, name) and name != "logits_via_embedding"
    ]
    if listed:
        raise ValueError(f"The Hugging Face folder to be like is of another model: {'; '.join(listed)}.")
