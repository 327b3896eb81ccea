"""A T5's sizes, from what a checkpoint holds, and as a gin file for training."""

import dataclasses
import re
from collections.abc import Mapping

Shapes = Mapping[str, tuple[int, ...]]

NUM_BUCKETS, MAX_DISTANCE = 32, 128  # of T5's relative positions: the same in every family
_LAYER = re.compile(r"(encoder|decoder)/layers_(\d+)/")


@dataclasses.dataclass(frozen=True)
class T5Sizes:
    """What tells one T5 from another, under the names of `network.T5Config`."""

    vocab_size: int
    emb_dim: int
    num_heads: int
    num_encoder_layers: int
    num_decoder_layers: int
    head_dim: int
    mlp_dim: int
    mlp_activations: tuple[str, ...]
    logits_via_embedding: bool
    relpos_bias_in_every_layer: bool = False

    @property
    def family(self) -> str:
        """'t5', 't5_1_1' (FLAN-T5 too), 'mt5', 'byt5' or 'umt5': what these sizes are used with."""
        if self.relpos_bias_in_every_layer:
            return "umt5"
        if self.logits_via_embedding:
            return "t5"
        return {384: "byt5", 250112: "mt5"}.get(self.vocab_size, "t5_1_1")


def sizes_of_shapes(shapes: Shapes, *, mlp_activations: tuple[str, ...] | None = None) -> T5Sizes:
    """The sizes of a checkpoint's network, read off its parameters.

    Args:
      shapes: of the parameters, by T5X's path ('encoder/layers_0/attention/query/kernel').
      mlp_activations: the only thing that shapes do not tell; by default T5's, 'relu' or ('gelu', 'linear').

    Raises:
      ValueError: names a parameter without which this is no T5.
    """

    def shape(*names: str, rank: int = 2) -> tuple[int, ...]:
        for name in names:
            if len(shapes.get(name, ())) == rank:
                return shapes[name]
        raise ValueError(f"No T5 encoder-decoder: no {names[0]} of {rank} axes; it has {_some(shapes)}.")

    layers = {"encoder": 0, "decoder": 0}
    for name in shapes:
        if match := _LAYER.match(name):
            layers[match[1]] = max(layers[match[1]], int(match[2]) + 1)
    vocab_size, emb_dim = shape("token_embedder/embedding")
    num_heads, num_buckets = shape(
        "encoder/relpos_bias/rel_embedding", "encoder/layers_0/relpos_bias/rel_embedding"
    )
    if num_buckets != NUM_BUCKETS:
        raise ValueError(
            f"relpos_bias/rel_embedding has {num_buckets} buckets; our network has {NUM_BUCKETS}."
        )
    gated = "encoder/layers_0/mlp/wi_0/kernel" in shapes
    _, mlp_dim = shape("encoder/layers_0/mlp/wi_0/kernel" if gated else "encoder/layers_0/mlp/wi/kernel")
    _, joined_kv = shape("encoder/layers_0/attention/query/kernel")
    if joined_kv % num_heads:
        raise ValueError(
            f"encoder/layers_0/attention/query/kernel has {joined_kv} columns, which {num_heads} heads (rows of "
            "relpos_bias/rel_embedding) do not divide."
        )
    activations = mlp_activations or (("gelu", "linear") if gated else ("relu",))
    if len(activations) != 1 + gated:
        raise ValueError(
            f"mlp_activations={activations!r}, but the checkpoint's feed-forward blocks are "
            f"{'gated (wi_0, wi_1)' if gated else 'not gated (wi)'}."
        )
    return T5Sizes(
        vocab_size=vocab_size,
        emb_dim=emb_dim,
        num_heads=num_heads,
        num_encoder_layers=layers["encoder"],
        num_decoder_layers=layers["decoder"],
        head_dim=joined_kv // num_heads,
        mlp_dim=mlp_dim,
        mlp_activations=activations,
        logits_via_embedding="decoder/logits_dense/kernel" not in shapes,
        relpos_bias_in_every_layer="encoder/relpos_bias/rel_embedding" not in shapes,
    )


def _some(names: Mapping[str, object]) -> str:
    first = sorted(names)[:5]
    return ", ".join(first) + (", …" if len(names) > len(first) else "") or "nothing"
