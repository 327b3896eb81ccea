"""config.json of a Hugging Face folder, to our sizes and back."""

from collections.abc import Mapping
from typing import Any

from stepdistill_jax.interop.t5.sizes import MAX_DISTANCE, NUM_BUCKETS, T5Sizes

Config = Mapping[str, Any]

MODEL_TYPES = {"t5": "T5", "mt5": "MT5", "umt5": "UMT5"}  # model_type -> beginning of its classes' names
# Hugging Face's name of an activation -> flax.linen's. Its 'gelu' is the exact one and flax's the approximation by
# tanh, so that 'gelu' has no equal here; 'gated-gelu' means 'gelu_new', the approximation.
_ACTIVATIONS = {"relu": "relu", "gelu_new": "gelu", "silu": "silu", "swish": "silu", "tanh": "tanh"}
_FEED_FORWARD = {
    ("relu",): "relu",
    ("gelu",): "gelu_new",
    ("silu",): "silu",
    ("tanh",): "tanh",
    ("gelu", "linear"): "gated-gelu",
    ("relu", "linear"): "gated-relu",
    ("silu", "linear"): "gated-silu",
    ("swish", "linear"): "gated-silu",
    ("tanh", "linear"): "gated-tanh",
}


def sizes_of_config(config: Config, *, has_head: bool, where: str) -> T5Sizes:
    """The sizes that a config.json states.

    Args:
      config: its content.
      has_head: whether the weights have an output layer of their own, beside the embedding.
      where: the file, for errors.

    Raises:
      ValueError: lists everything in it that our network does not compute.
    """
    problems = []
    if config.get("model_type") not in MODEL_TYPES:
        raise ValueError(
            f"{where}: model_type={config.get('model_type')!r}; we convert {', '.join(MODEL_TYPES)} (FLAN-T5 and ByT5 are 't5')."
        )
    sizes = {}
    for ours, theirs in (
        ("vocab_size", "vocab_size"),
        ("emb_dim", "d_model"),
        ("num_heads", "num_heads"),
        ("num_encoder_layers", "num_layers"),
        ("head_dim", "d_kv"),
        ("mlp_dim", "d_ff"),
        ("num_decoder_layers", "num_decoder_layers"),
    ):
        value = config.get(theirs)
        if theirs == "num_decoder_layers" and value is None:
            value = config.get("num_layers")
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            problems.append(f"{theirs}={value!r} is no size")
        sizes[ours] = value
    for name, ours in (
        ("relative_attention_num_buckets", NUM_BUCKETS),
        ("relative_attention_max_distance", MAX_DISTANCE),
        ("layer_norm_epsilon", 1e-6),
        ("pad_token_id", 0),
        ("decoder_start_token_id", 0),
    ):
        if (value := config.get(name)) is not None and value != ours:
            problems.append(f"{name}={value!r}, and our network has {ours!r}")
    gated_gelu = "relu" if config["model_type"] == "t5" else "gated-gelu"
    feed_forward = str(config.get("feed_forward_proj", gated_gelu))
    activations = _activations(feed_forward)
    if activations is None:
        problems.append(
            f"feed_forward_proj={feed_forward!r} has no equal here; it may be {', '.join(sorted(set(_FEED_FORWARD.values())))}"
        )
    tied = not has_head and scales_logits(config)
    if has_head and scales_logits(config):
        problems.append(
            "tie_word_embeddings is true, but lm_head.weight differs from shared.weight; set it to false if the output "
            "layer is separate (T5 v1.1 and later)"
        )
    if problems:
        raise ValueError(f"{where} cannot be converted: {'; '.join(problems)}.")
    return T5Sizes(
        **sizes,
        mlp_activations=activations,
        logits_via_embedding=tied,
        relpos_bias_in_every_layer=config["model_type"] == "umt5",
    )


def scales_logits(config: Config) -> bool:
    """Whether transformers multiplies the decoder's output by 1/sqrt(d_model), as T5 v1.0 does with its tied embedding.

    Version 4 does it if `tie_word_embeddings`. Version 5 forces that to true, keeps what the file said in
    `scale_decoder_outputs`, and never scales for mT5.
    """
    if isinstance(scale := config.get("scale_decoder_outputs"), bool):
        return scale
    if config.get("model_type") == "mt5":
        first_version = str(config.get("transformers_version", "4")).split(".")[0]
        return (
            config.get("tie_word_embeddings", False) is True
            and first_version.isdigit()
            and int(first_version) < 5
        )
    return config.get("tie_word_embeddings", True) is not False


def _activations(feed_forward: str) -> tuple[str, ...] | None:
    if feed_forward == "gated-gelu":
        return ("gelu", "linear")
    name = _ACTIVATIONS.get(feed_forward.removeprefix("gated-"))
    if name is None:
        return None
    return (name, "linear") if feed_forward.startswith("gated-") else (name,)


def config_of_sizes(
    sizes: T5Sizes, *, dtype: str, dropout_rate: float = 0.1, like: Config | None = None
) -> dict[str, Any]:
    """The config.json of a network, readable by transformers 4 and 5.

    Args:
      dtype: of the weights, 'float32', 'bfloat16' or 'float16'.
      like: a config.json whose other settings are kept, such as that of the model that training began with.

    Raises:
      ValueError: if transformers has no such activation, or `like` is of other sizes.
    """
    feed_forward = _FEED_FORWARD.get(sizes.mlp_activations)
    if feed_forward is None:
        raise ValueError(
            f"mlp_activations={sizes.mlp_activations!r}: transformers' T5 has none such; it has "
            f"{', '.join(map(str, _FEED_FORWARD))}."
        )
    model_type = {"umt5": "umt5", "mt5": "mt5"}.get(sizes.family, "t5")
    config = {
        "model_type": model_type,
        "feed_forward_proj": feed_forward,
        "dropout_rate": dropout_rate,
        "layer_norm_epsilon": 1e-6,
        "initializer_factor": 1.0,
        "relative_attention_num_buckets": NUM_BUCKETS,
        "relative_attention_max_distance": MAX_DISTANCE,
        "is_encoder_decoder": True,
        "use_cache": True,
        "pad_token_id": 0,
        "eos_token_id": 1,
        "decoder_start_token_id": 0,
    }
    if like is not None:
        of_like = sizes_of_config(
            like, has_head=not sizes.logits_via_embedding and not scales_logits(like), where="config.json"
        )
        differing = [
            name
            for name in vars(sizes)
            if getattr(sizes, name) != getattr(of_like, name) and name != "logits_via_embedding"
        ]
        if differing:
            listed = "; ".join(
                f"{name} is {getattr(of_like, name)!r}, the checkpoint has {getattr(sizes, name)!r}"
                for name in differing
            )
            raise ValueError(f"The Hugging Face folder to be like is of another model: {listed}.")
        # Beyond the sizes, what it says stands; version 5 rewrites `tie_word_embeddings`, so that is said anew below.
        config |= {
            name: value
            for name, value in like.items()
            if name not in ("scale_decoder_outputs", "torch_dtype", "dtype")
        }
    return config | {
        "architectures": [f"{MODEL_TYPES[config['model_type']]}ForConditionalGeneration"],
        "vocab_size": sizes.vocab_size,
        "d_model": sizes.emb_dim,
        "d_kv": sizes.head_dim,
        "d_ff": sizes.mlp_dim,
        "num_layers": sizes.num_encoder_layers,
        "num_decoder_layers": sizes.num_decoder_layers,
        "num_heads": sizes.num_heads,
        "tie_word_embeddings": sizes.logits_via_embedding,
        "torch_dtype": dtype,
    }
