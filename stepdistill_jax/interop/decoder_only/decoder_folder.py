"""A decoder-only model in a Hugging Face folder, or in what a GGUF file makes of one: its sizes, and a tensor for every parameter."""

from collections.abc import Mapping
from typing import Any

from stepdistill_jax.interop.decoder_only.huggingface_config import sizes_of_config
from stepdistill_jax.interop.decoder_only.parameter_names import (
    EMBED_TOKENS,
    LM_HEAD,
    TOKEN_ROWS,
    UNUSED_ENDING,
    parameters,
)
from stepdistill_jax.interop.decoder_only.sizes import DecoderSizes
from stepdistill_jax.interop.decoder_only.swapped_rows import with_swapped_tokens
from stepdistill_jax.interop.decoder_only.text_tokens import TextTokens
from stepdistill_jax.interop.lazy_array import LazyArray, same_numbers
from stepdistill_jax.interop.parameter import Parameter, of_huggingface


def match_decoder_only(
    config: Mapping[str, Any], tensors: Mapping[str, LazyArray], *, source: str, tokens: TextTokens | None
) -> tuple[DecoderSizes, list[tuple[Parameter, LazyArray]]]:
    """The sizes, and a tensor for every parameter, with our ids.

    Args:
      config: of config.json.
      tensors: by Hugging Face's names.
      source: the folder, for errors.
      tokens: its text's start is our id 0; None leaves the ids as they are.

    Raises:
      ValueError: lists every name and shape that is not the network's.
    """
    sizes = sizes_of_config(config, where=f"{source}/config.json")
    settled = {name: array for name, array in tensors.items() if not name.endswith(UNUSED_ENDING)}
    problems = []
    if sizes.logits_via_embedding and LM_HEAD in settled and EMBED_TOKENS in settled:
        # A file may repeat the embedding.
        if not same_numbers(settled[EMBED_TOKENS], settled.pop(LM_HEAD)):
            problems.append(f"tie_word_embeddings is true, but {LM_HEAD} differs from {EMBED_TOKENS}")
    elif sizes.logits_via_embedding and LM_HEAD in settled:
        settled[EMBED_TOKENS] = settled.pop(LM_HEAD)
    matched = of_huggingface(parameters(sizes), settled, source=source, kind=sizes.family, more=problems)
    if tokens is None:
        return sizes, matched
    if tokens.num_ids > sizes.vocab_size:
        raise ValueError(
            f"{source}: its tokenizer has {tokens.num_ids} ids, but the network {sizes.vocab_size} embeddings; take the tokenizer "
            "that the model was trained with."
        )
    return sizes, [
        (
            parameter,
            with_swapped_tokens(array, tokens.start_id, axis=0)
            if parameter.huggingface in TOKEN_ROWS
            else array,
        )
        for parameter, array in matched
    ]
