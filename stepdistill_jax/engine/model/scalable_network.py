"""T5X's `t5x.examples.scalable_t5.network`: the network of `network.py` with that module's defaults.

Its layers run as one compiled loop, and each has relative position biases of its own.
"""

import dataclasses

from stepdistill_jax.engine.model import network
from stepdistill_jax.engine.model.network import Decoder, DecoderLayer, Encoder, EncoderLayer, Transformer

__all__ = ["Decoder", "DecoderLayer", "Encoder", "EncoderLayer", "T5Config", "Transformer"]


@dataclasses.dataclass(frozen=True)
class T5Config(network.T5Config):
    """Sizes of a T5; see `network.T5Config`."""

    scan_layers: bool | None = True
    relpos_bias_in_every_layer: bool = True
