import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from stepdistill_jax.engine.model import layers

pytestmark = pytest.mark.usefixtures("strict_ranks")


@pytest.fixture(scope="module")
def model(make_model):
    return make_model()


@pytest.fixture(scope="module")
def params(model, make_params):
    return make_params(model)


@pytest.fixture(scope="module")
def logits_fn(model):
    return jax.jit(model._compute_logits)


def _row(*segments, length):
    """(tokens, segment ids, positions) of segments put one behind the other, padded to `length`."""
    tokens = [token for segment in segments for token in segment]
    ids = [number for number, segment in enumerate(segments, start=1) for _ in segment]
    positions = [position for segment in segments for position in range(len(segment))]
    return [jnp.asarray([values + [0] * (length - len(values))]) for values in (tokens, ids, positions)]


def _packed_batch(examples, input_length, target_length):
    inputs = _row(*[example[0] for example in examples], length=input_length)
    targets = _row(*[example[1] for example in examples], length=target_length)
    shifted = _row(*[[0, *example[1][:-1]] for example in examples], length=target_length)
    return {
        "encoder_input_tokens": inputs[0],
        "encoder_segment_ids": inputs[1],
        "encoder_positions": inputs[2],
        "decoder_target_tokens": targets[0],
        "decoder_input_tokens": shifted[0],
        "decoder_segment_ids": targets[1],
        "decoder_positions": targets[2],
    }


EXAMPLES = [([7, 8, 9, 1], [5, 6, 1]), ([11, 12, 1], [13, 14, 15, 1])]


def test_a_packed_row_gives_the_logits_of_its_examples_apart(model, params, logits_fn):
    packed = logits_fn(params, _packed_batch(EXAMPLES, 9, 9))[0]
    start = 0
    for inputs, targets in EXAMPLES:
        alone = logits_fn(params, _packed_batch([(inputs, targets)], 9, 9))[0, : len(targets)]
        np.testing.assert_allclose(packed[start : start + len(targets)], alone, atol=1e-5)
        start += len(targets)


def test_padding_does_not_change_the_logits(params, logits_fn):
    inputs, targets = EXAMPLES[0]

    def batch(input_length, target_length):
        features = _packed_batch([(inputs, targets)], input_length, target_length)
        return {name: rows for name, rows in features.items() if name.endswith("tokens")}

    short = logits_fn(params, batch(4, 3))
    long = logits_fn(params, batch(9, 8))[:, :3]
    np.testing.assert_allclose(short, long, atol=1e-5)


def test_a_token_does_not_see_later_targets(params, logits_fn, make_batch):
    batch = make_batch(rows=1)
    later = {**batch, "decoder_input_tokens": batch["decoder_input_tokens"].at[0, 4].set(39)}
    before, after = logits_fn(params, batch), logits_fn(params, later)
    np.testing.assert_array_equal(before[0, :4], after[0, :4])
    assert not np.allclose(before[0, 4:], after[0, 4:])


def _decode_step(model, params, tokens, encoder_tokens, cache, encoded):
    logits, variables = model.module.apply(
        {"params": params, "cache": cache},
        encoded,
        encoder_tokens,
        tokens,
        tokens,
        enable_dropout=False,
        decode=True,
        mutable=["cache"],
        method=model.module.decode,
    )
    return logits[:, 0], variables["cache"]


@pytest.mark.parametrize("config_changes", [{}, {"mlp_activations": ("relu",), "logits_via_embedding": True}])
def test_cached_decoding_gives_the_teacher_forced_logits(make_model, make_params, make_batch, config_changes):
    model = make_model(config_changes)
    params = make_params(model)
    batch = make_batch(rows=3)
    batch["decoder_target_tokens"] = jnp.maximum(batch["decoder_target_tokens"], 1)  # every position counts
    encoder_tokens, decoder_tokens = batch["encoder_input_tokens"], batch["decoder_input_tokens"]

    @jax.jit
    def start(params):
        encoded = model.module.apply(
            {"params": params}, encoder_tokens, enable_dropout=False, method=model.module.encode
        )
        cache = model._compute_kv_cache(params, encoded, encoder_tokens, decoder_tokens)
        return encoded, cache, model._compute_logits(params, batch)

    encoded, cache, forced = start(params)
    # The encoded inputs are projected when the cache is made: a step does not read them any more.
    step = jax.jit(
        lambda tokens, cache: _decode_step(
            model, params, tokens, encoder_tokens, cache, jnp.zeros_like(encoded)
        )
    )
    stepwise = []
    for position in range(decoder_tokens.shape[1]):
        logits, cache = step(decoder_tokens[:, position : position + 1], cache)
        stepwise.append(logits)
    np.testing.assert_allclose(jnp.stack(stepwise, axis=1), forced, atol=1e-5)
    assert int(cache["decoder"]["cache_index"]) == decoder_tokens.shape[1]


def test_v1_0_ties_its_logits_to_the_scaled_embedding(make_model, make_params, make_batch):
    model = make_model({"mlp_activations": ("relu",), "logits_via_embedding": True})
    params = make_params(model)
    batch = make_batch()
    tokens = [batch[f"{name}_tokens"] for name in ("encoder_input", "decoder_input", "decoder_target")]

    @jax.jit
    def capture(params):
        return model.module.apply(
            {"params": params},
            *tokens,
            enable_dropout=False,
            capture_intermediates=lambda module, _: module.name == "decoder_norm",
            mutable=["intermediates"],
        )

    logits, captured = capture(params)
    hidden = captured["intermediates"]["decoder"]["decoder_norm"]["__call__"][0]
    expected = np.asarray(hidden) @ np.asarray(params["token_embedder"]["embedding"]).T / math.sqrt(16)
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-5)
    assert "logits_dense" not in params["decoder"]
    assert set(params["encoder"]["layers_0"]["mlp"]) == {"wi", "wo"}


def test_bfloat16_stays_close_to_float32(make_model, params, logits_fn, make_batch):
    batch = make_batch()
    wide = logits_fn(params, batch)
    narrow_model = make_model({"dtype": "bfloat16"})
    narrow = jax.jit(narrow_model._compute_logits)(params, batch)
    assert narrow.dtype == jnp.float32
    # bfloat16 keeps 8 bits, a relative error of 2^-9 an operation; logits here are of size 1 to 3.
    np.testing.assert_allclose(narrow, wide, atol=0.08)
    assert float(jnp.max(jnp.abs(narrow - wide))) > 1e-4, "bfloat16 was not used"


def test_parameters_are_float32_in_a_bfloat16_model(make_model, make_params):
    model = make_model({"dtype": "bfloat16"})
    dtypes = {leaf.dtype for leaf in jax.tree.leaves(jax.eval_shape(lambda: make_params(model)))}
    assert dtypes == {jnp.dtype("float32")}


def _expected_axes(path):
    kernels = {
        "query": ("embed", "joined_kv"),
        "key": ("embed", "joined_kv"),
        "value": ("embed", "joined_kv"),
        "out": ("joined_kv", "embed"),
        "wi_0": ("embed", "mlp"),
        "wi_1": ("embed", "mlp"),
        "wo": ("mlp", "embed"),
        "logits_dense": ("embed", "vocab"),
    }
    if path[-1] == "kernel":
        return kernels[path[-2]]
    return {
        "scale": ("embed",),
        "embedding": ("vocab", "embed"),
        "rel_embedding": ("heads", "relpos_buckets"),
    }[path[-1]]


def test_every_parameter_has_t5x_logical_axes(model):
    shapes = {"encoder_input_tokens": (2, 8), "decoder_input_tokens": (2, 8)}
    variables = jax.eval_shape(lambda: model.get_initial_variables(jax.random.PRNGKey(0), shapes))
    params = traverse_util.flatten_dict(variables["params"])
    axes = traverse_util.flatten_dict(variables["params_axes"])
    assert len(params) == 1 + (2 * 9 + 2) + (2 * 14 + 3)  # embedding; encoder; decoder
    assert {(*path[:-1], f"{path[-1]}_axes") for path in params} == axes.keys()
    for path, param in params.items():
        names = tuple(axes[(*path[:-1], f"{path[-1]}_axes")].names)
        assert names == _expected_axes(path), path
        assert len(names) == param.ndim, path


def test_dropout_drops_a_feature_at_all_positions_of_a_row():
    same_at_all_positions = jnp.broadcast_to(jnp.linspace(-1.0, 1.0, 8), (3, 5, 8))
    module = layers.MlpBlock(intermediate_dim=32, activations=("gelu", "linear"), dropout_rate=0.5)
    variables = module.init(jax.random.PRNGKey(0), same_at_all_positions, deterministic=True)
    hidden = module.apply(variables, same_at_all_positions, rngs={"dropout": jax.random.PRNGKey(1)})
    np.testing.assert_allclose(hidden, jnp.broadcast_to(hidden[:, :1], hidden.shape), rtol=1e-5)
    assert not np.allclose(hidden[0], hidden[1]), "rows share their dropout"


def test_dropout_follows_its_key(model, params, make_batch):
    logits = jax.jit(model._compute_logits)
    one, same, other = (logits(params, make_batch(), jax.random.PRNGKey(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert not np.allclose(one, other)


def test_attention_dropout_drops_a_key_for_all_queries_of_a_row():
    value = jnp.tile(
        jnp.eye(6)[None, :, None, :], (2, 1, 3, 1)
    )  # reads the weights off: value j is unit vector j
    zeros = jnp.zeros((2, 6, 3, 6))
    weights = layers.dot_product_attention(
        zeros, zeros, value, dropout_rng=jax.random.PRNGKey(0), dropout_rate=0.5
    )  # [batch, queries, heads, keys]
    np.testing.assert_allclose(np.unique(weights), [0.0, 2.0 / 6.0], rtol=1e-6)
    np.testing.assert_array_equal(weights, jnp.broadcast_to(weights[:, :1], weights.shape))


def _bucket_by_hand(behind, bidirectional):
    """Mesh TensorFlow's rule for one distance (Raffel et al. 2020), 32 buckets up to distance 128."""
    num_buckets, offset = 32, 0
    if bidirectional:
        num_buckets, offset = 16, 16 if behind < 0 else 0
        behind = abs(behind)
    behind = max(behind, 0)
    exact = num_buckets // 2
    if behind < exact:
        return offset + behind
    share = math.log(behind / exact) / math.log(128 / exact)
    return offset + min(exact + math.floor(share * (num_buckets - exact) + 1e-9), num_buckets - 1)


@pytest.mark.parametrize("bidirectional", [True, False])
def test_position_buckets_follow_t5s_rule(bidirectional):
    distances = np.arange(-600, 601)
    buckets = layers.relative_position_bucket(
        distances, bidirectional=bidirectional, num_buckets=32, max_distance=128
    )
    assert buckets.tolist() == [_bucket_by_hand(-int(distance), bidirectional) for distance in distances]


@pytest.mark.parametrize(("num_queries", "num_keys"), [(5, 5), (1, 7), (7, 1), (6, 4)])
def test_position_biases_are_looked_up_by_distance(num_queries, num_keys):
    module = layers.RelativePositionBiases(num_heads=3)
    variables = module.init(jax.random.PRNGKey(0), 2, 2, bidirectional=True)
    biases = module.apply(variables, num_queries, num_keys, bidirectional=True)
    distance = np.arange(num_keys)[None, :] - np.arange(num_queries)[:, None]
    bucket = layers.relative_position_bucket(distance, bidirectional=True, num_buckets=32, max_distance=128)
    expected = np.asarray(variables["params"]["rel_embedding"])[:, bucket]
    np.testing.assert_allclose(biases[0], expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"num_heads": 0}, "num_heads=0"),
        ({"dropout_rate": 1.0}, "dropout_rate=1.0"),
        ({"mlp_activations": ("geglu", "linear")}, "'geglu'"),
        ({"mlp_activations": "gelu"}, "'gelu'"),
        ({"dtype": "bfloat"}, "'bfloat'"),
        ({"dtype": "int32"}, "'int32'"),
    ],
)
def test_a_wrong_size_or_name_is_named_before_anything_is_built(tiny_config, changes, named):
    with pytest.raises(ValueError, match=named) as error:
        tiny_config.replace(**changes)
    assert "\n" not in str(error.value)


def test_decoding_refuses_packed_rows_and_a_cache_of_another_length(model, params, make_batch):
    batch = make_batch(rows=2)
    arguments = [batch[f"{name}_tokens"] for name in ("encoder_input", "decoder_input", "decoder_target")]
    with pytest.raises(ValueError, match="pack=False"):
        model.module.apply(
            {"params": params},
            *arguments,
            encoder_segment_ids=batch["encoder_input_tokens"],
            decode=True,
            enable_dropout=False,
            mutable=["cache"],
        )
    encoded = jnp.zeros((2, 9, 16))
    with pytest.raises(ValueError, match="max_decode_length=12"):
        model.module.apply(
            {"params": params},
            encoded,
            *arguments,
            decode=True,
            enable_dropout=False,
            max_decode_length=12,
            mutable=["cache"],
            method=model.module.decode,
        )
