"""The sizes of all tiny T5s of these tests. Golden values (../shared/oracle, goldens/) bring the sizes they were made with."""

from typing import Any

from stepdistill_jax.engine.model import network

# Two layers, four heads: enough for layers to differ and for heads to split over devices.
SIZES = {
    "emb_dim": 16,
    "num_heads": 4,
    "num_encoder_layers": 2,
    "num_decoder_layers": 2,
    "head_dim": 4,
    "mlp_dim": 24,
    "mlp_activations": ("gelu", "linear"),
}
# For whole runs, which are many: compiled in a second.
ONE_LAYER = {
    "emb_dim": 16,
    "num_encoder_layers": 1,
    "num_decoder_layers": 1,
    "num_heads": 2,
    "head_dim": 8,
    "mlp_dim": 16,
}


def tiny_config(**changes: Any) -> network.T5Config:
    """The network of `SIZES`, with changes; a `vocab_size` is always given."""
    return network.T5Config(**{**SIZES, **changes})


def gin_bindings(sizes: dict[str, Any]) -> tuple[str, ...]:
    """The same in gin: 'network.T5Config.emb_dim = 16', …"""
    return tuple(f"network.T5Config.{name} = {value!r}" for name, value in sizes.items())
