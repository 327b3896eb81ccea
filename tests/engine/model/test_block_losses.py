"""The loss in blocks of tokens is the plain one, with gradients, on one device and with the vocabulary split."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stepdistill_jax.engine.model import block_losses, losses
from stepdistill_jax.engine.model.metrics import metric_values
from stepdistill_jax.engine.partition import axis_rules, partitioning

pytestmark = pytest.mark.usefixtures("quick_compilation")

EMBED, VOCAB = 16, 48


@pytest.fixture(scope="module")
def arguments():
    """(hidden, kernel, targets, weights) of 8 rows of 7 tokens, some without weight."""
    rng = np.random.default_rng(0)
    weights = rng.uniform(0.1, 1.0, (8, 7)) * (np.arange(7) < rng.integers(3, 8, (8, 1)))
    return (
        jnp.asarray(rng.normal(size=(8, 7, EMBED)), jnp.float32),
        jnp.asarray(rng.normal(size=(EMBED, VOCAB)), jnp.float32),
        jnp.asarray(rng.integers(0, VOCAB, (8, 7)), jnp.int32),
        jnp.asarray(weights, jnp.float32),
    )


def _plain(hidden, kernel, targets, weights, **settings):
    token_losses, z_losses = losses.token_losses(hidden @ kernel, targets, **settings)
    return jnp.sum(token_losses * weights), (token_losses, z_losses)


def _in_blocks(hidden, kernel, targets, weights, *, block_tokens, only_weighted=False, **settings):
    loss, tokens = block_losses.weighted_token_losses(
        hidden,
        kernel,
        targets,
        weights,
        block_tokens=block_tokens,
        counts=weights > 0 if only_weighted else None,
        **settings,
    )
    return loss, (tokens.losses, tokens.z_losses, tokens.correct)


def _with_gradient(function, arguments, **settings):
    return jax.jit(
        jax.value_and_grad(lambda *args: function(*args, **settings), argnums=(0, 1, 3), has_aux=True)
    )(*arguments)


def _assert_close(first, second):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-6), first, second)


@pytest.mark.parametrize("block_tokens", [1, 24, 10_000], ids=["a_column", "with_padding", "all_at_once"])
def test_blocks_give_the_plain_loss_and_gradient(arguments, block_tokens):
    settings = {"z_loss": 0.01, "label_smoothing": 0.1}
    (loss, tokens), grads = _with_gradient(_in_blocks, arguments, block_tokens=block_tokens, **settings)
    (expected_loss, expected_tokens), expected_grads = _with_gradient(_plain, arguments, **settings)
    _assert_close((loss, tokens[:2], grads), (expected_loss, expected_tokens, expected_grads))
    hidden, kernel, targets, _ = arguments
    np.testing.assert_array_equal(tokens[2], jnp.argmax(hidden @ kernel, axis=-1) == targets)


def test_products_in_bfloat16_have_float32_sums_and_gradients_near_the_plain_ones(arguments):
    plain, exact = _with_gradient(_plain, arguments)
    rounded, gradients = _with_gradient(_in_blocks, arguments, block_tokens=24, dot_dtype=jnp.bfloat16)

    np.testing.assert_allclose(rounded[0], plain[0], rtol=2e-3)
    assert float(rounded[0]) != float(plain[0])
    for found, expected in zip(gradients, exact, strict=True):
        assert found.dtype == jnp.float32
        np.testing.assert_allclose(found, expected, atol=0.02 * float(jnp.max(jnp.abs(expected))))

    text = str(
        jax.make_jaxpr(lambda *args: _in_blocks(*args, block_tokens=24, dot_dtype=jnp.bfloat16)[0])(
            *arguments
        )
    )
    assert text.count("preferred_element_type=float32") == text.count("dot_general[") >= 1


@pytest.mark.parametrize("block_tokens", [1, 13, 10_000], ids=["a_token", "with_padding", "all_at_once"])
def test_tokens_that_do_not_count_cost_no_block_and_have_no_loss(arguments, block_tokens, monkeypatch):
    """13 is no divisor of the 56 tokens: blocks hold the ends and beginnings of rows."""
    computed = []
    of_block = block_losses._losses_of_block

    def noted(logits, targets, settings):
        jax.debug.callback(lambda: computed.append(logits.shape[:2]))
        return of_block(logits, targets, settings)

    monkeypatch.setattr(block_losses, "_losses_of_block", noted)
    settings = {"z_loss": 0.01, "label_smoothing": 0.1}
    (loss, tokens), grads = _with_gradient(
        _in_blocks, arguments, block_tokens=block_tokens, only_weighted=True, **settings
    )
    (expected_loss, expected_tokens), expected_grads = _with_gradient(_plain, arguments, **settings)
    counts = np.asarray(arguments[3]) > 0
    _assert_close((loss, grads[:2]), (expected_loss, expected_grads[:2]))
    _assert_close([rows[counts] for rows in tokens[:2]], [rows[counts] for rows in expected_tokens])
    jax.effects_barrier()
    length = min(block_tokens, counts.size)
    assert computed == [(1, length)] * -(-counts.sum() // length)
    if block_tokens == 1:
        assert not np.asarray(tokens[0])[~counts].any()


def test_without_a_gradient_the_loss_is_the_same(arguments):
    loss, tokens = _in_blocks(*arguments, block_tokens=24, z_loss=0.01)
    _assert_close((loss, tokens[:2]), _plain(*arguments, z_loss=0.01))


@pytest.mark.parametrize("only_weighted", [False, True], ids=["all_tokens", "those_that_count"])
@pytest.mark.parametrize("dims", [1, 2], ids=["tensor", "fsdp"])
def test_rows_and_vocabulary_split_over_a_mesh_give_the_same(arguments, dims, only_weighted):
    partitioner = partitioning.PjitPartitioner(
        num_partitions=2,
        logical_axis_rules=axis_rules.standard_logical_axis_rules(parameter_partitioning_dims=dims),
    )
    spec = jax.sharding.PartitionSpec
    rows = spec("data")
    gradient = partitioner.partition(
        jax.value_and_grad(
            lambda *args: _in_blocks(*args, block_tokens=4, only_weighted=only_weighted)[0], argnums=(0, 1)
        ),
        in_axis_resources=(rows, spec("data" if dims == 2 else None, "model"), rows, rows),
        out_axis_resources=None,
    )
    loss, grads = gradient(*arguments)
    (expected_loss, _), expected_grads = _with_gradient(_plain, arguments)
    _assert_close((loss, grads), (expected_loss, expected_grads[:2]))
    # Four devices hold rows: each sums up its own gradient of the kernel, and one exchange follows the last block.
    with partitioner.context():
        assert block_losses._num_batch_shards(8) == 4
        assert block_losses._num_batch_shards(7) == 1


def test_no_array_as_large_as_all_logits_is_made(arguments):
    hidden, kernel, targets, weights = (
        jnp.tile(a, (4, *[1] * (a.ndim - 1))) if a.shape[0] == 8 else a for a in arguments
    )
    jaxpr = jax.make_jaxpr(
        jax.grad(lambda h, k: _in_blocks(h, k, targets, weights, block_tokens=32)[0], (0, 1))
    )(hidden, kernel)
    largest = max(
        int(np.prod(variable.aval.shape))
        for equation in _all_equations(jaxpr.jaxpr)
        for variable in equation.outvars
        if variable.aval.shape[-1:] == (VOCAB,)
    )
    assert largest == 32 * VOCAB  # of 224 tokens


def _all_equations(jaxpr):
    for equation in jaxpr.eqns:
        yield equation
        for parameter in jax.tree.leaves(
            tuple(equation.params.values()),
            is_leaf=lambda leaf: hasattr(leaf, "eqns") or hasattr(leaf, "jaxpr"),
        ):
            inner = getattr(parameter, "jaxpr", parameter)
            if hasattr(inner, "eqns"):
                yield from _all_equations(inner)


@pytest.mark.parametrize(
    "config_changes", [{}, {"mlp_activations": ("relu",), "logits_via_embedding": True}], ids=["v1_1", "v1_0"]
)
def test_a_model_has_the_same_loss_metrics_and_gradient_either_way(
    make_model, make_params, make_batch, config_changes
):
    def run(loss_block_tokens):
        model = make_model(
            config_changes,
            loss_block_tokens=loss_block_tokens,
            z_loss=0.01,
            label_smoothing=0.1,
            loss_normalizing_factor="NUM_REAL_TARGET_TOKENS",
        )
        gradient = jax.jit(jax.value_and_grad(model.loss_fn, has_aux=True))
        return gradient(make_params(model), make_batch(), jax.random.PRNGKey(1))

    ((loss, metrics), grads), ((expected_loss, expected_metrics), expected_grads) = run(8), run(None)
    _assert_close((loss, grads), (expected_loss, expected_grads))
    untimed = lambda values: {name: m for name, m in values.items() if not name.startswith("timing/")}  # noqa: E731
    _assert_close(metric_values(untimed(metrics)), metric_values(untimed(expected_metrics)))


@pytest.mark.parametrize("tied", [False, True])
def test_logits_of_a_bfloat16_product_are_float32_in_losses_and_in_decoding(
    make_model, make_params, make_batch, tied
):
    changes = {"dtype": jnp.bfloat16, "logits_via_embedding": tied, "dropout_rate": 0.0}
    exact, rounded = (make_model({**changes, "logits_dot_in_fp32": in_fp32}) for in_fp32 in (True, False))
    params, batch = make_params(exact), make_batch()
    of_all, of_rounded = (jax.jit(model._compute_logits)(params, batch) for model in (exact, rounded))
    in_blocks = make_model({**changes, "logits_dot_in_fp32": False}, loss_block_tokens=8)

    assert of_rounded.dtype == jnp.float32
    assert not np.array_equal(of_rounded, of_all)
    np.testing.assert_allclose(of_rounded, of_all, atol=0.02 * float(jnp.max(jnp.abs(of_all))))
    np.testing.assert_allclose(
        in_blocks.loss_fn(params, batch, None)[0], rounded.loss_fn(params, batch, None)[0], rtol=1e-3
    )


def test_a_subclass_with_its_own_logits_or_metrics_gets_all_logits(make_model):
    model = make_model()
    assert model._makes_logits_in_blocks()
    seen = type("OwnMetrics", (type(model),), {"_compute_metrics": lambda self, **_: {}})
    changed = type("OwnLogits", (type(model),), {"_compute_logits": lambda self, *_: None})
    for cls in (seen, changed):
        other = object.__new__(cls)
        other.__dict__.update(model.__dict__)
        assert not other._makes_logits_in_blocks()
    assert not make_model(loss_block_tokens=None)._makes_logits_in_blocks()


def test_a_block_of_no_tokens_is_refused(make_model):
    with pytest.raises(ValueError, match="loss_block_tokens=0"):
        make_model(loss_block_tokens=0)
