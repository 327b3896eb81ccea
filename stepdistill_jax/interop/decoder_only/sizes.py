"""A decoder-only network's sizes, and what tells its family, under the names of `engine.model.llama.LlamaConfig`."""

import dataclasses
from collections.abc import Mapping
from typing import Any

Shapes = Mapping[str, tuple[int, ...]]

EMBEDDING, HEAD = "token_embedder/embedding", "decoder/logits_dense/kernel"


@dataclasses.dataclass(frozen=True)
class DecoderSizes:
    """What tells one decoder-only network from another; defaults are those of `LlamaConfig`.

    Attributes:
      num_kv_heads: heads of keys and values; each serves num_heads / num_kv_heads query heads.
      rope_factor, …: Llama 3's scaling of rotary positions; 1.0 is none.
      attention_bias: of queries, keys and values (Qwen2.5).
      query_key_norm: of each head (Qwen3, Gemma 3).
      query_scale: None is head_dim ** -0.5.
      norm_offset, post_norms, embedding_scale: Gemma's: scales are kept minus 1, branches are normed before they are added as
        well, embeddings are multiplied by sqrt(emb_dim).
      sliding_window: tokens that a local layer looks back, its own included; each `global_every`-th layer looks at all.
      local_rope_theta: of local layers.
    """

    vocab_size: int
    emb_dim: int
    num_heads: int
    num_kv_heads: int
    num_layers: int
    head_dim: int
    mlp_dim: int
    mlp_activations: tuple[str, ...] = ("silu", "linear")
    logits_via_embedding: bool = True
    norm_epsilon: float = 1e-5
    rope_theta: float = 10_000.0
    rope_factor: float = 1.0
    rope_low_frequency_factor: float | None = None
    rope_high_frequency_factor: float | None = None
    rope_original_length: int | None = None
    attention_bias: bool = False
    query_key_norm: bool = False
    query_scale: float | None = None
    norm_offset: float = 0.0
    post_norms: bool = False
    embedding_scale: bool = False
    sliding_window: int | None = None
    global_every: int = 6
    local_rope_theta: float = 10_000.0

    @property
    def family(self) -> str:
        """'llama' (SmolLM2 too), 'qwen2', 'qwen3' or 'gemma3': whose network these sizes are computed by."""
        if self.post_norms:
            return "gemma3"
        if self.query_key_norm:
            return "qwen3"
        return "qwen2" if self.attention_bias else "llama"


def sizes_of_settings(settings: Mapping[str, Any], shapes: Shapes, *, where: str) -> DecoderSizes:
    """The sizes that a gin file or a student's description binds, compared with a checkpoint's shapes.

    Args:
      settings: fields of `LlamaConfig`; those that are not sizes are passed over.
      shapes: of the parameters, by their path.
      where: the checkpoint, for errors.

    Raises:
      ValueError: if settings lack what shapes don't tell, or both differ.
    """
    names = {field.name for field in dataclasses.fields(DecoderSizes)}
    known = {name: value for name, value in settings.items() if name in names}
    known["mlp_activations"] = tuple(known.get("mlp_activations", DecoderSizes.mlp_activations))
    told = _told_by(shapes, where)
    # A head's width is not told by shapes, but decides how many there are.
    if "head_dim" not in known:
        raise ValueError(
            f"{where}: no file beside it says its head_dim and rotary positions; keep config.gin, model.gin or student.json "
            "beside it, or name the Hugging Face folder that it began with (--like)."
        )
    heads = {
        "num_heads": told.pop("query_width") // known["head_dim"],
        "num_kv_heads": told.pop("key_width") // known["head_dim"],
    }
    for name, value in (told | heads).items():
        if known.setdefault(name, value) != value:
            raise ValueError(f"{where}: {name} is {value}, the file beside it says {known[name]}.")
    return DecoderSizes(**known)


def _told_by(shapes: Shapes, where: str) -> dict[str, Any]:
    layer = "decoder/layers_0"

    def shape(name: str) -> tuple[int, ...]:
        if len(shapes.get(name, ())) != 2:
            raise ValueError(f"{where} is no decoder-only model of ours: no {name} of 2 axes.")
        return shapes[name]

    vocab_size, emb_dim = shape(EMBEDDING)
    numbers = [
        int(name.split("/")[1].removeprefix("layers_"))
        for name in shapes
        if name.startswith("decoder/layers_")
    ]
    return {
        "vocab_size": vocab_size,
        "emb_dim": emb_dim,
        "num_layers": max(numbers, default=-1) + 1,
        "mlp_dim": shape(f"{layer}/mlp/wi_0/kernel")[1],
        "query_width": shape(f"{layer}/self_attention/query/kernel")[1],
        "key_width": shape(f"{layer}/self_attention/key/kernel")[1],
        "logits_via_embedding": HEAD not in shapes,
        "attention_bias": f"{layer}/self_attention/query/bias" in shapes,
        "query_key_norm": f"{layer}/self_attention/query_norm/scale" in shapes,
        "post_norms": f"{layer}/post_mlp_layer_norm/scale" in shapes,
    }


def is_decoder_only(names: Mapping[str, object]) -> bool:
    """Whether a checkpoint's parameters are a decoder-only model's: there is no encoder."""
    return EMBEDDING in names and not any(name.startswith("encoder/") for name in names)
