"""The gin side of a conversion: a network file for a converted model, and what a run's config.gin says of its own."""

import dataclasses
from pathlib import Path
from typing import Any

from gin import config_parser

from stepdistill_jax.interop.sizes import T5Sizes

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


def gin_of_sizes(sizes: T5Sizes, *, title: str, source: str, use: str, vocabulary: str | None) -> str:
    """A network file in the manner of gin/models: it follows a run's file, whose network and vocabulary it replaces.

    Args:
      vocabulary: a SentencePiece model, 'bytes', or None for T5's.
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
        data += f"datasets.vocabulary_choice.extra_ids = {_UMT5_SENTINELS}\n"
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


@dataclasses.dataclass(frozen=True)
class Reference:
    """`@name()` in a gin file."""

    name: str


@dataclasses.dataclass(frozen=True)
class _Macro:
    name: str


class _Names(config_parser.ParserDelegate):
    """Keeps references as names, so that a file is read without importing what it configures."""

    def configurable_reference(self, scoped_configurable_name: str, evaluate: bool) -> Reference:
        return Reference(scoped_configurable_name)

    def macro(self, macro_name: str) -> _Macro:
        return _Macro(macro_name)


def read_bindings(path: Path) -> dict[str, Any]:
    """What a gin file itself binds, by the last two parts of the name ('T5Config.emb_dim', or a macro's 'VOCABULARY').

    Nothing is imported or called; macros that the file binds are filled in; files that it includes are not read.

    Raises:
      ValueError: if it is not gin.
    """
    bound: dict[str, Any] = {}
    try:
        for statement in config_parser.ConfigParser(path.read_text(encoding="utf-8"), _Names()):
            if isinstance(statement, config_parser.BindingStatement):
                name = statement.selector.split(".")[-1]
                bound[f"{name}.{statement.arg_name}" if statement.arg_name else name] = statement.value
    except SyntaxError as error:
        raise ValueError(f"{path} is no gin file: {error}.") from error
    return {
        name: bound.get(value.name) if isinstance(value, _Macro) else value for name, value in bound.items()
    }
