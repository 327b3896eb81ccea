"""Which parameter of ours is which of Hugging Face's in decoder-only families, and how it lies there. Pure: names and shapes.

Kernels are [in, out] here and [out, in] there. Heads are side by side in both, and rotary positions turn a head's first half with its
second ("rotate half"), so nothing is permuted. Token rows are swapped where ids are (`swapped_rows`).
"""

from collections.abc import Iterator

from stepdistill_jax.interop.decoder_only.sizes import EMBEDDING, HEAD, DecoderSizes
from stepdistill_jax.interop.parameter import Parameter

EMBED_TOKENS, LM_HEAD = "model.embed_tokens.weight", "lm_head.weight"
TOKEN_ROWS = (EMBED_TOKENS, LM_HEAD)  # Hugging Face's tensors with a row a token
# Constants that older versions of transformers kept among the weights.
UNUSED_ENDING = ".rotary_emb.inv_freq"


def parameters(sizes: DecoderSizes) -> list[Parameter]:
    """Every parameter of a network of these sizes, the embedding first."""
    found = [Parameter(EMBEDDING, EMBED_TOKENS, (sizes.vocab_size, sizes.emb_dim), turned=False)]
    for layer in range(sizes.num_layers):
        found += _layer(sizes, f"decoder/layers_{layer}", f"model.layers.{layer}")
    found.append(Parameter("decoder/decoder_norm/scale", "model.norm.weight", (sizes.emb_dim,), turned=False))
    if not sizes.logits_via_embedding:
        found.append(Parameter(HEAD, LM_HEAD, (sizes.emb_dim, sizes.vocab_size), turned=True))
    return found


def _layer(sizes: DecoderSizes, ours: str, theirs: str) -> Iterator[Parameter]:
    inner, shared = sizes.num_heads * sizes.head_dim, sizes.num_kv_heads * sizes.head_dim
    norms = {
        "pre_self_attention_layer_norm": "input_layernorm",
        "pre_mlp_layer_norm": "post_attention_layernorm",
    }
    if sizes.post_norms:
        norms |= {
            "post_self_attention_layer_norm": "post_attention_layernorm",
            "pre_mlp_layer_norm": "pre_feedforward_layernorm",
            "post_mlp_layer_norm": "post_feedforward_layernorm",
        }
    for name, huggingface in norms.items():
        yield Parameter(
            f"{ours}/{name}/scale", f"{theirs}.{huggingface}.weight", (sizes.emb_dim,), turned=False
        )
    for name, letter, shape in (
        ("query", "q", (sizes.emb_dim, inner)),
        ("key", "k", (sizes.emb_dim, shared)),
        ("value", "v", (sizes.emb_dim, shared)),
        ("out", "o", (inner, sizes.emb_dim)),
    ):
        place = f"{theirs}.self_attn.{letter}_proj"
        yield Parameter(f"{ours}/self_attention/{name}/kernel", f"{place}.weight", shape, turned=True)
        if sizes.attention_bias and name != "out":
            yield Parameter(f"{ours}/self_attention/{name}/bias", f"{place}.bias", shape[1:], turned=False)
    if sizes.query_key_norm:
        for name, letter in (("query_norm", "q"), ("key_norm", "k")):
            place = f"{theirs}.self_attn.{letter}_norm.weight"
            yield Parameter(f"{ours}/self_attention/{name}/scale", place, (sizes.head_dim,), turned=False)
    for name, letter in (("wi_0", "gate"), ("wi_1", "up"), ("wo", "down")):
        shape = (sizes.mlp_dim, sizes.emb_dim) if name == "wo" else (sizes.emb_dim, sizes.mlp_dim)
        yield Parameter(f"{ours}/mlp/{name}/kernel", f"{theirs}.mlp.{letter}_proj.weight", shape, turned=True)
