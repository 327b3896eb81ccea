"""A converted T5's network and vocabulary as a gin file."""

import dataclasses

from stepdistill_jax.interop.t5.sizes import T5Sizes

_TEMPLATE = """\
# {title}: converted by `stepdistill convert` from {source}.
# Use   {use}
from __gin__ import dynamic_registration

{imports}from t5x.examples.t5 import network

{data}NETWORK = @network.Transformer()
network.Transformer.config = @network.T5Config()
network.T5Config:
  dtype = 'bfloat16'            # of the computation; parameters, softmax and norms are float32
  dropout_rate = %DROPOUT_RATE
{sizes}
"""


# Without a file of its own, a family's vocabulary is the public one.
PUBLIC_VOCABULARIES = {
    "mt5": "gs://t5-data/vocabs/mc4.250000.100extra/sentencepiece.model",
    "umt5": "gs://t5-data/vocabs/umt5.256000/sentencepiece.model",
    "byt5": "bytes",
}
_UMT5_SENTINELS = 300  # which that file does not hold
# In bytes: the longest inputs and rationales of the paper's four datasets have 737 and 498.
_LENGTHS_IN_BYTES = {"inputs": 1024, "targets": 512, "task_ids": 512}


def gin_of_sizes(
    sizes: T5Sizes, *, title: str, source: str, use: str, vocabulary: str | None, extra_ids: int | None = None
) -> str:
    """A network file in the manner of gin/models: it follows a run's file, whose network and vocabulary it replaces.

    Args:
      vocabulary: a SentencePiece model, 'bytes', or None for T5's.
      extra_ids: sentinels behind the SentencePiece model's own pieces; None leaves T5's.
    """
    fields = dataclasses.asdict(sizes)
    if not sizes.relpos_bias_in_every_layer:
        del fields["relpos_bias_in_every_layer"]  # which T5X's network does not have
    lines = "\n".join(f"  {name} = {value!r}" for name, value in fields.items())
    data = (
        f"datasets.vocabulary_choice.file = {vocabulary!r}    # of the tasks and of the model\n"
        if vocabulary
        else ""
    )
    if vocabulary == PUBLIC_VOCABULARIES["umt5"]:
        extra_ids = _UMT5_SENTINELS
    if extra_ids is not None:
        data += f"datasets.vocabulary_choice.extra_ids = {extra_ids}\n"
    if vocabulary == "bytes":
        data += f"TASK_FEATURE_LENGTHS = {_LENGTHS_IN_BYTES!r}    # in bytes\n"
    return _TEMPLATE.format(
        title=title,
        source=source,
        use=use,
        imports="from stepdistill_jax import datasets\n" if data else "",
        data=f"{data}\n" if data else "",
        sizes=lines,
    )
