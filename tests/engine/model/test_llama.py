"""The decoder-only network: what it may look at, its cache, and that no way of computing it changes what it says."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_llama import FAMILIES, random_prefix_batch, tiny_llama

from stepdistill_jax.engine.model import llama, llama_layers, masks

pytestmark = pytest.mark.usefixtures("strict_ranks", "quick_compilation")


@pytest.fixture(scope="module")
def make_params():
    """make_params(config) -> random parameters, large enough for logits to differ."""

    def make(config, seed=0):
        network = llama.Llama(config)
        tokens = jnp.ones((2, 8), jnp.int32)
        params = network.init(jax.random.PRNGKey(seed), tokens, tokens, enable_dropout=False)["params"]
        leaves, tree = jax.tree.flatten(params)
        keys = jax.random.split(jax.random.PRNGKey(seed + 1), len(leaves))
        noisy = [
            leaf + 0.3 * jax.random.normal(key, leaf.shape) for leaf, key in zip(leaves, keys, strict=True)
        ]
        return jax.tree.unflatten(tree, noisy)

    return make


def logits_of(config, params, batch, **arguments):
    return llama.Llama(config).apply(
        {"params": params},
        batch["decoder_input_tokens"],
        batch["decoder_target_tokens"],
        enable_dropout=False,
        **arguments,
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_a_token_sees_none_that_come_later(make_params, family):
    config = tiny_llama(family)
    params, batch = make_params(config), random_prefix_batch()
    logits = jax.jit(lambda batch: logits_of(config, params, batch))
    changed = {**batch, "decoder_input_tokens": batch["decoder_input_tokens"].at[:, 4].add(1)}
    before, after = logits(batch), logits(changed)
    np.testing.assert_array_equal(before[:, :4], after[:, :4])
    assert np.all(np.abs(before[:, 4] - after[:, 4]).max(axis=-1) > 1e-4)


def test_inputs_see_each_other_where_they_are_asked_to(make_params):
    config = tiny_llama()
    params, batch = make_params(config), random_prefix_batch()
    read = batch["decoder_causal_attention"]
    logits = jax.jit(lambda batch: logits_of(config, params, batch, decoder_causal_attention=read))
    last = int(read[0].sum()) - 1  # where row 0 reads its last input token
    changed = {**batch, "decoder_input_tokens": batch["decoder_input_tokens"].at[0, last].add(1)}
    first = np.abs(logits(batch) - logits(changed))[0, 0]
    assert first.max() > 1e-4


@pytest.mark.parametrize("family", FAMILIES)
def test_scanned_and_rematerialised_layers_give_the_same(make_params, family):
    config = tiny_llama(family)
    params, batch = make_params(config), random_prefix_batch()

    def loss(config):
        return jax.jit(
            jax.value_and_grad(lambda params: jnp.sum(logits_of(config, params, batch)[:, :8] ** 2))
        )

    expected = loss(config.replace(scan_layers=False))(params)
    for changes in ({"scan_layers": True}, {"scan_layers": True, "remat_policy": "full"}):
        found = loss(config.replace(**changes))(params)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-3), found, expected)


@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_rows_of_many_causal_blocks_are_computed_as_one(make_params, family):
    """A mask that is given whole is not known to be causal, so all scores are made; packed rows of several blocks agree with it."""
    config = tiny_llama(family)
    params = make_params(config)
    length = 2 * llama_layers._CAUSAL_BLOCK + 7
    tokens = jax.random.randint(jax.random.PRNGKey(3), (2, length), 1, config.vocab_size)
    tokens = tokens.at[1, -9:].set(0)  # padding
    segments = jnp.where(jnp.arange(length) < 70, 1, 2)[None] * (tokens > 0)
    positions = jnp.where(jnp.arange(length) < 70, jnp.arange(length), jnp.arange(length) - 70)[None]
    positions = jnp.broadcast_to(positions, tokens.shape)
    batch = {"decoder_input_tokens": tokens, "decoder_target_tokens": tokens}

    def loss(params, **arguments):
        logits = logits_of(config, params, batch, decoder_positions=positions, **arguments)
        return jnp.sum(jnp.where(tokens[..., None] > 0, logits, 0.0) ** 2)

    mask = masks.make_decoder_mask(tokens, segments)
    whole = jax.jit(jax.value_and_grad(lambda params: loss(params, attention_mask=mask)))(params)
    blocks = jax.jit(jax.value_and_grad(lambda params: loss(params, decoder_segment_ids=segments)))(params)
    np.testing.assert_allclose(blocks[0], whole[0], rtol=1e-5)
    for found, expected in zip(jax.tree.leaves(blocks[1]), jax.tree.leaves(whole[1]), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-4 * float(np.abs(expected).max()))


def test_jax_s_attention_gives_the_same(make_params):
    config = tiny_llama()
    params, batch = make_params(config), random_prefix_batch()
    is_token = np.asarray(batch["decoder_target_tokens"] > 0)
    plain = np.asarray(logits_of(config, params, batch))[is_token]
    of_jax = np.asarray(logits_of(config.replace(attention="xla"), params, batch))[is_token]
    np.testing.assert_allclose(of_jax, plain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_packed_examples_do_not_see_each_other(make_params, family):
    config = tiny_llama(family)
    params = make_params(config)
    alone = random_prefix_batch(rows=2)
    lengths = [int((row > 0).sum()) for row in alone["decoder_target_tokens"]]
    ends = np.cumsum(lengths)
    packed = {
        name: jnp.concatenate([rows[row, :length] for row, length in enumerate(lengths)])[None]
        for name, rows in alone.items()
    }
    segments = jnp.repeat(jnp.asarray([1, 2]), np.asarray(lengths))[None]
    positions = jnp.concatenate([jnp.arange(length) for length in lengths])[None]
    together = jax.jit(
        lambda: logits_of(config, params, packed, decoder_segment_ids=segments, decoder_positions=positions)
    )()
    apart = jax.jit(lambda: logits_of(config, params, alone))()
    np.testing.assert_allclose(together[0, : ends[0]], apart[0, : lengths[0]], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(together[0, ends[0] : ends[1]], apart[1, : lengths[1]], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_tokens_from_the_cache_get_the_logits_of_whole_rows(make_params, family):
    config = tiny_llama(family)
    network, params, batch = llama.Llama(config), make_params(config), random_prefix_batch()
    whole = jax.jit(lambda: logits_of(config, params, batch))()
    tokens, read = batch["decoder_input_tokens"], batch["decoder_causal_attention"]

    def apply(cache, *arguments, **settings):
        variables = {"params": params} | ({} if cache is None else {"cache": cache})
        return network.apply(variables, *arguments, enable_dropout=False, mutable=["cache"], **settings)

    cache = apply(None, jnp.ones_like(tokens), jnp.ones_like(tokens), decode=True)[1]["cache"]
    lengths = read.sum(axis=1) - 1
    cache = apply(cache, tokens * read, read, prefill=True, prefill_lengths=lengths)[1]["cache"]
    np.testing.assert_array_equal(cache["decoder"]["cache_index"], lengths)
    step = jax.jit(lambda cache, tokens: apply(cache, tokens, tokens, decode=True, max_decode_length=12))
    rows = jnp.arange(len(lengths))
    for offset in range(3):  # each row at a place of its own
        places = lengths + offset
        logits, variables = step(cache, tokens[rows, places][:, None])
        cache = variables["cache"]
        np.testing.assert_allclose(logits[:, 0], whole[rows, places], rtol=1e-4, atol=2e-4)


def test_a_cache_of_another_length_is_refused(make_params):
    config = tiny_llama()
    network, params, tokens = llama.Llama(config), make_params(config), jnp.ones((2, 8), jnp.int32)
    settings = {"decode": True, "mutable": ["cache"], "enable_dropout": False}
    cache = network.apply({"params": params}, tokens, tokens, **settings)[1]["cache"]
    with pytest.raises(ValueError, match="max_decode_length=9, but the cache was made for 8 tokens"):
        network.apply(
            {"params": params, "cache": cache}, tokens[:, :1], tokens[:, :1], max_decode_length=9, **settings
        )
    with pytest.raises(ValueError, match="one token a row"):
        network.apply({"params": params, "cache": cache}, tokens[:, :2], tokens[:, :2], **settings)


def test_frequencies_are_the_paper_s_and_llama_3_slows_the_long_waves():
    plain = llama_layers.rotary_frequencies(8, theta=10_000.0)
    np.testing.assert_allclose(plain, [1.0, 0.1, 0.01, 0.001], rtol=1e-6)
    np.testing.assert_allclose(llama_layers.rotary_frequencies(8, theta=10_000.0, factor=4.0), plain / 4)
    slowed = llama_layers.rotary_frequencies(
        8,
        theta=10_000.0,
        factor=4.0,
        low_frequency_factor=1.0,
        high_frequency_factor=4.0,
        original_length=128,
    )
    # Waves of 6, 63, 628 and 6,283 tokens: the first is below 128 / 4, the last two above 128 / 1, the second in between.
    turns = 128 * 0.1 / (2 * np.pi)
    kept = (turns - 1.0) / 3.0
    np.testing.assert_allclose(slowed, [1.0, 0.1 * (kept + (1 - kept) / 4), 0.0025, 0.00025], rtol=1e-5)


def test_a_rotation_depends_on_the_distance_alone():
    rng = np.random.default_rng(0)
    query, key = (jnp.asarray(rng.normal(size=(1, 1, 1, 8)), jnp.float32) for _ in range(2))
    frequencies = llama_layers.rotary_frequencies(8, theta=100.0)

    def product(query_place, key_place):
        turned = [
            llama_layers.rotation(jnp.asarray([[place]]), frequencies)(heads)
            for place, heads in ((query_place, query), (key_place, key))
        ]
        return float(jnp.sum(turned[0] * turned[1]))

    assert product(7, 4) == pytest.approx(product(23, 20), abs=1e-5)
    assert product(7, 4) != pytest.approx(product(7, 5), abs=1e-3)


def test_bfloat16_computes_close_to_float32(make_params):
    config = tiny_llama("qwen3")
    params, batch = make_params(config), random_prefix_batch()
    exact = jax.jit(lambda: logits_of(config, params, batch))()
    rounded = jax.jit(lambda: logits_of(config.replace(dtype="bfloat16"), params, batch))()
    assert rounded.dtype == jnp.float32
    assert np.abs(exact - rounded).max() < 0.05 * np.abs(exact).max()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_layers": 0}, "LlamaConfig.num_layers=0; it must be at least 1"),
        ({"num_kv_heads": 3}, "num_heads=4 is no multiple of num_kv_heads=3"),
        ({"head_dim": 5}, "head_dim=5 is odd"),
        ({"dropout_rate": 1.0}, r"dropout_rate=1.0; it must lie in \[0, 1\)"),
        ({"mlp_activations": "silu"}, "give a tuple of names"),
        ({"mlp_activations": ("swoosh",)}, "unknown 'swoosh'"),
        ({"dtype": "float31"}, "dtype='float31' is no dtype"),
        ({"remat_policy": "all"}, "remat_policy='all'"),
        ({"attention": "flash"}, "attention='flash'"),
    ],
)
def test_sizes_that_cannot_be_get_one_line(changes, message):
    with pytest.raises(ValueError, match=message):
        tiny_llama(**changes)


def test_a_config_is_hashable_data():
    config = tiny_llama("gemma3")
    assert hash(config) == hash(llama.LlamaConfig(**dataclasses.asdict(config)))
