"""The sizes and settings of a T5 (`network`), checked where they are given."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp

from stepdistill_jax.engine.model import layer_stacks, layers
from stepdistill_jax.engine.model.attention import choice


@dataclasses.dataclass(frozen=True)
class T5Config:
    """Sizes of a T5, with T5X's names and defaults.

    Attributes:
      dtype: what activations are computed in, a dtype or its name ('bfloat16'); parameters stay float32.
      mlp_activations: names from flax.linen or 'linear'; their branches are multiplied.
      logits_via_embedding: the output layer is the input embedding, scaled by 1/sqrt(emb_dim) (v1.0).
      float32_attention_logits: multiplies queries and keys in float32, whatever `dtype`.
      remat_policy: which activations of a layer are kept for the backward pass: 'none' keeps all, 'minimal' the
        results of its matrix products, 'full' only the layer's input. None: 'minimal' where layers are scanned, else 'none'.
      scan_layers: whether the layers of a stack run as one compiled loop (XXL compiles in a fraction of the time) or
        one behind the other. None scans stacks of more than `layer_stacks.LONGEST_UNROLLED_STACK` layers.
      param_scan_axis: taken for T5X's sake; stacked checkpoints are read with the layers on axis 1, T5X's default.
      relpos_bias_in_every_layer: each layer has relative position biases of its own (umT5), not one for its stack.
      attention: what computes attention without a cache. 'plain': products and a softmax over all scores. 'xla', 'cudnn':
        `jax.nn.dot_product_attention`. 'pallas': our kernels for packed rows (`attention.kernels`). 'auto': on a GPU the first of
        'pallas' and 'cudnn' that serves, elsewhere 'plain' (`attention.choice`). All drop the same weights.
      logits_dot_in_fp32: whether hidden states and output weights are multiplied in float32; else in `dtype`, which is faster.
        Their sums, the logits, are float32 in any case. Of decoding, scores and losses alike.
    """

    vocab_size: int
    dtype: Any = jnp.float32
    emb_dim: int = 512
    num_heads: int = 8
    num_encoder_layers: int = 6
    num_decoder_layers: int = 6
    head_dim: int = 64
    mlp_dim: int = 2048
    mlp_activations: Sequence[Any] = ("relu",)
    dropout_rate: float = 0.1
    logits_via_embedding: bool = False
    float32_attention_logits: bool = False
    remat_policy: str | None = None
    scan_layers: bool | None = None
    param_scan_axis: int = 1
    relpos_bias_in_every_layer: bool = False
    attention: str = "auto"
    logits_dot_in_fp32: bool = True

    def __post_init__(self) -> None:
        sizes = ("vocab_size", "emb_dim", "num_heads", "num_encoder_layers", "num_decoder_layers")
        for name in (*sizes, "head_dim", "mlp_dim"):
            if getattr(self, name) < 1:
                raise ValueError(f"T5Config.{name}={getattr(self, name)}; it must be at least 1.")
        if not 0.0 <= self.dropout_rate < 1.0:
            raise ValueError(f"T5Config.dropout_rate={self.dropout_rate}; it must lie in [0, 1).")
        if isinstance(self.mlp_activations, str) or not self.mlp_activations:
            raise ValueError(
                f"T5Config.mlp_activations={self.mlp_activations!r}; give a tuple of names, as ('gelu', 'linear')."
            )
        for activation in self.mlp_activations:
            layers.activation_function(activation)
        try:
            is_float = jnp.issubdtype(jnp.dtype(self.dtype), jnp.floating)
        except TypeError:
            is_float = False
        if not is_float:
            raise ValueError(f"T5Config.dtype={self.dtype!r} is no float dtype; use 'float32' or 'bfloat16'.")
        layer_stacks.check_remat_policy(self.remat_policy)
        choice.check_attention(
            self.attention,
            dtype=self.dtype,
            head_dim=self.head_dim,
            float32_logits=self.float32_attention_logits,
        )
        object.__setattr__(self, "mlp_activations", tuple(self.mlp_activations))

    @property
    def logits_dot_dtype(self) -> Any:
        """Of both factors of the product that gives logits."""
        return jnp.float32 if self.logits_dot_in_fp32 else self.dtype

    def replace(self, **changes: Any) -> "T5Config":
        return dataclasses.replace(self, **changes)
