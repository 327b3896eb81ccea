"""Every network of gin/models is read and built in shape only; its size is the published one."""

from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from stepdistill_jax.launching import launch

ROOT = Path(__file__).resolve().parents[2]
# Numbers of parameters of the released checkpoints, in millions, as their model cards count them (Hugging Face hub,
# google/byt5-small: 299.6 M, …). umT5 large was never released; its shape is in T5X.
MILLION_PARAMETERS = {
    "t5_1_0": (60.5, 222.9, 737.7, 2_851.6, 11_307.3),
    "t5_1_1": (77.0, 247.6, 783.2, 2_849.8, 11_135.3),
    "flan_t5": (77.0, 247.6, 783.2, 2_849.8, 11_135.3),
    "mt5": (300.2, 582.4, 1_229.6, 3_742.6, 12_921.1),
    "byt5": (299.6, 581.7, 1_228.2, 3_737.8, 12_906.9),
    "umt5": (306.6, 592.0, 1_242.4, 3_768.4, 12_972.5),
}
# Of these the smallest is kept. Hugging Face hub, HuggingFaceTB/SmolLM2-135M (134.5 M), meta-llama/Llama-3.2-1B (1,235.8 M),
# Qwen/Qwen2.5-0.5B (494.0 M), Qwen/Qwen3-0.6B (596.0 M) and google/gemma-3-270m (268.1 M).
DECODER_ONLY = {
    "smollm2_135m": 134.5,
    "llama_3_2_1b": 1_235.8,
    "qwen2_5_0_5b": 494.0,
    "qwen3_0_6b": 596.0,
    "gemma_3_270m": 268.1,
}
SIZES = ("small", "base", "large", "xl", "xxl")
NETWORKS = [f"{family}_{size}" for family in MILLION_PARAMETERS for size in SIZES]


def read_module(name):
    """The network that gin/models/<name>.gin names, without weights."""
    import gin

    launch.read_config([f"gin/models/{name}.gin"], ["DROPOUT_RATE = 0.0"])
    return gin.query_parameter("%NETWORK").scoped_configurable_fn()


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_has_the_published_number_of_parameters(name):
    module = read_module(name)
    tokens = jnp.ones((2, 8), jnp.int32)
    variables = jax.eval_shape(
        lambda: module.init(jax.random.key(0), tokens, tokens, tokens, enable_dropout=False)
    )
    count = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    family, size = name.rsplit("_", 1)
    assert count / 1e6 == pytest.approx(MILLION_PARAMETERS[family][SIZES.index(size)], abs=0.05)


@pytest.mark.parametrize("name", DECODER_ONLY)
def test_a_decoder_only_network_has_the_published_number_of_parameters(name):
    module = read_module(name)
    tokens = jnp.ones((2, 8), jnp.int32)
    variables = jax.eval_shape(lambda: module.init(jax.random.key(0), tokens, tokens, enable_dropout=False))
    count = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    assert count / 1e6 == pytest.approx(DECODER_ONLY[name], abs=0.05)


def test_every_size_of_every_family_has_a_file():
    files = {path.stem for path in (ROOT / "gin" / "models").glob("*.gin")}
    assert files == {*NETWORKS, *DECODER_ONLY, "t5_1_1_tiny", "t5_1_1_mini", "byt5_tiny"}


@pytest.mark.parametrize("size", SIZES)
def test_flan_t5_is_t5_v1_1_and_binds_nothing_else(size):
    import gin

    text = (ROOT / "gin" / "models" / f"flan_t5_{size}.gin").read_text(encoding="utf-8")
    assert [line for line in text.splitlines() if not line.startswith("#")] == [
        f"include 'gin/models/t5_1_1_{size}.gin'"
    ]
    config = read_module(f"flan_t5_{size}").config
    resolved = gin.config_str()
    assert config == read_module(f"t5_1_1_{size}").config
    assert resolved == gin.config_str()
    assert (config.mlp_activations, config.logits_via_embedding) == (("gelu", "linear"), False)
    assert (config.vocab_size, config.dtype) == (32128, "bfloat16")


def test_byt5_reads_bytes():
    import gin

    read_module("byt5_small")
    vocabulary = gin.query_parameter("%VOCABULARY").scoped_configurable_fn()
    assert vocabulary.encode("aé") == [100, 198, 172]
    assert vocabulary.vocab_size <= gin.query_parameter("t5.network.T5Config.vocab_size")
