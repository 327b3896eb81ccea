"""Which parameter of T5X is which of Hugging Face's, and how it lies there. Pure: names and shapes, no arrays.

T5X keeps kernels as [in, out], torch's linear layers as [out, in], so kernels are turned. T5X keeps the relative
position biases as [heads, buckets], torch's embedding as [buckets, heads]: turned as well. Token embeddings are [vocab,
embed] in both, and neither folds a scale into any weight.
"""

from collections.abc import Iterator

from stepdistill_jax.interop.parameter import Parameter
from stepdistill_jax.interop.t5.sizes import NUM_BUCKETS, T5Sizes

SHARED = "shared.weight"
HEAD = "lm_head.weight"
# The same embedding under other names: torch files repeat it, and some keep it under one of these alone.
EMBEDDING_ALIASES = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight")
# T5 v1.0's first conversions kept a bias of the cross-attention, which no network uses.
UNUSED = ("decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight",)

_ATTENTION = {"query": "q", "key": "k", "value": "v", "out": "o"}


def parameters(sizes: T5Sizes) -> list[Parameter]:
    """Every parameter of a T5 of these sizes, the embedding first."""
    found = [Parameter("token_embedder/embedding", SHARED, (sizes.vocab_size, sizes.emb_dim), turned=False)]
    for stack, num_layers in (("encoder", sizes.num_encoder_layers), ("decoder", sizes.num_decoder_layers)):
        if not sizes.relpos_bias_in_every_layer:
            found.append(_relative_bias(sizes, stack, f"{stack}/relpos_bias/rel_embedding", layer=0))
        for layer in range(num_layers):
            found += _layer(sizes, stack, layer)
        found.append(_norm(sizes, f"{stack}/{stack}_norm/scale", f"{stack}.final_layer_norm.weight"))
    if not sizes.logits_via_embedding:
        found.append(
            Parameter("decoder/logits_dense/kernel", HEAD, (sizes.emb_dim, sizes.vocab_size), turned=True)
        )
    return found


def _layer(sizes: T5Sizes, stack: str, layer: int) -> Iterator[Parameter]:
    """One layer's parameters: Hugging Face numbers its blocks (attention, cross-attention, feed-forward), T5X names them."""
    ours, theirs = f"{stack}/layers_{layer}", f"{stack}.block.{layer}.layer"
    if stack == "encoder":
        attentions = [("attention", "pre_attention_layer_norm", "SelfAttention")]
    else:
        attentions = [
            ("self_attention", "pre_self_attention_layer_norm", "SelfAttention"),
            ("encoder_decoder_attention", "pre_cross_attention_layer_norm", "EncDecAttention"),
        ]
    if sizes.relpos_bias_in_every_layer:
        yield _relative_bias(sizes, stack, f"{ours}/relpos_bias/rel_embedding", layer=layer)
    inner = sizes.num_heads * sizes.head_dim
    for block, (name, norm, kind) in enumerate(attentions):
        yield _norm(sizes, f"{ours}/{norm}/scale", f"{theirs}.{block}.layer_norm.weight")
        for projection, letter in _ATTENTION.items():
            shape = (inner, sizes.emb_dim) if projection == "out" else (sizes.emb_dim, inner)
            yield Parameter(
                f"{ours}/{name}/{projection}/kernel",
                f"{theirs}.{block}.{kind}.{letter}.weight",
                shape,
                turned=True,
            )
    block = len(attentions)
    yield _norm(sizes, f"{ours}/pre_mlp_layer_norm/scale", f"{theirs}.{block}.layer_norm.weight")
    gated = len(sizes.mlp_activations) > 1
    for name in ("wi_0", "wi_1", "wo") if gated else ("wi", "wo"):
        shape = (sizes.mlp_dim, sizes.emb_dim) if name == "wo" else (sizes.emb_dim, sizes.mlp_dim)
        yield Parameter(
            f"{ours}/mlp/{name}/kernel", f"{theirs}.{block}.DenseReluDense.{name}.weight", shape, turned=True
        )


def _norm(sizes: T5Sizes, name: str, huggingface: str) -> Parameter:
    return Parameter(name, huggingface, (sizes.emb_dim,), turned=False)


def _relative_bias(sizes: T5Sizes, stack: str, name: str, *, layer: int) -> Parameter:
    huggingface = f"{stack}.block.{layer}.layer.0.SelfAttention.relative_attention_bias.weight"
    return Parameter(name, huggingface, (sizes.num_heads, NUM_BUCKETS), turned=True)
