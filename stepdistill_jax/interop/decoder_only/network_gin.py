"""A converted decoder-only model's network and vocabulary as a gin file."""

import dataclasses

from stepdistill_jax.interop.decoder_only.sizes import DecoderSizes
from stepdistill_jax.interop.decoder_only.text_tokens import TextTokens

_TEMPLATE = """\
# {title}: converted by `stepdistill convert` from {source}.
# Use   {use}
from __gin__ import dynamic_registration

{imports}from stepdistill_jax.engine.model import llama

{data}NETWORK = @llama.Llama()
llama.Llama.config = @llama.LlamaConfig()
llama.LlamaConfig:
  dtype = 'bfloat16'            # of the computation; parameters, softmax and norms are float32
{sizes}
"""


def gin_of_sizes(
    sizes: DecoderSizes,
    *,
    title: str,
    source: str,
    use: str,
    vocabulary: str | None,
    tokens: TextTokens | None,
) -> str:
    """A network file in the manner of gin/models: it follows a run's file, whose network and vocabulary it replaces.

    Args:
      vocabulary: a tokenizer.json; None leaves the run's.
      tokens: that start and end a text in it.
    """
    required = {field.name for field in dataclasses.fields(sizes) if field.default is dataclasses.MISSING}
    always = required | {"mlp_activations", "logits_via_embedding", "norm_epsilon", "rope_theta"}
    defaults = {field.name: field.default for field in dataclasses.fields(sizes)}
    lines = [
        f"  {name} = {value!r}"
        for name, value in vars(sizes).items()
        if name in always or value != defaults[name]
    ]
    data = ""
    if vocabulary and tokens:
        data = (
            f"datasets.vocabulary_choice.file = {vocabulary!r}    # of the tasks and of the model\n"
            f"datasets.vocabulary_choice.start = {tokens.start!r}    # id 0 here, {tokens.start_id} in the file: pads and begins\n"
            f"datasets.vocabulary_choice.end = {tokens.end!r}\n"
            "VOCABULARY = @datasets.vocabulary()\n\n"
        )
    return _TEMPLATE.format(
        title=title,
        source=source,
        use=use,
        imports="from stepdistill_jax import datasets\n" if data else "",
        data=data,
        sizes="\n".join(lines),
    )
