import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stepdistill_jax.engine.model import losses

pytestmark = pytest.mark.usefixtures("strict_ranks")

LOGITS = 3.0 * np.random.default_rng(0).standard_normal((2, 4, 11)).astype(np.float32)
TARGETS = jnp.asarray(np.random.default_rng(1).integers(0, 11, (2, 4)), jnp.int32)


def _one_hot_reference(logits, targets, z_loss, label_smoothing):
    """The loss with one-hot targets, as the formula reads: -Σ p log softmax - H(p) + z_loss · log²Z."""
    vocab_size = logits.shape[-1]
    confidence, low = 1.0 - label_smoothing, label_smoothing / (vocab_size - 1)
    wanted = jax.nn.one_hot(targets, vocab_size) * (confidence - low) + low
    log_probs = jax.nn.log_softmax(logits)
    log_z = jax.nn.logsumexp(logits, axis=-1)
    entropy = -(confidence * np.log(confidence) + (vocab_size - 1) * low * np.log(low + 1e-20))
    return -jnp.sum(wanted * log_probs, axis=-1) - entropy + z_loss * log_z**2


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
@pytest.mark.parametrize("z_loss", [0.0, 1e-2])
def test_token_loss_and_gradient_are_those_of_one_hot_targets(z_loss, label_smoothing):
    weights = jnp.asarray([[1.0, 0.0, 2.0, 0.5], [1.0, 1.0, 0.0, 0.0]])

    def weighted(function):
        return lambda logits: jnp.sum(weights * function(logits, TARGETS, z_loss, label_smoothing))

    ours = losses.token_cross_entropy(jnp.asarray(LOGITS), TARGETS, z_loss, label_smoothing)
    expected = _one_hot_reference(LOGITS, TARGETS, z_loss, label_smoothing)
    np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-6)
    gradient = jax.grad(weighted(losses.token_cross_entropy))(jnp.asarray(LOGITS))
    expected = jax.grad(weighted(_one_hot_reference))(jnp.asarray(LOGITS))
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-6)


def test_a_perfect_model_has_no_loss_even_with_smoothing():
    confidence, low = 0.9, 0.1 / 10
    logits = jnp.log(jax.nn.one_hot(TARGETS, 11) * (confidence - low) + low)
    loss = losses.token_cross_entropy(logits, TARGETS, 0.0, 0.1)
    np.testing.assert_allclose(loss, 0.0, atol=1e-6)


def test_no_array_of_one_hot_targets_is_kept_for_the_backward_pass():
    _, backward = jax.vjp(
        lambda logits: losses.token_cross_entropy(logits, TARGETS, 1e-4), jnp.asarray(LOGITS)
    )
    as_large_as_logits = [leaf for leaf in jax.tree.leaves(backward) if leaf.size >= LOGITS.size]
    assert len(as_large_as_logits) == 1  # the logits themselves


def test_bfloat16_logits_have_a_float32_loss_and_a_bfloat16_gradient():
    logits = jnp.asarray(LOGITS, jnp.bfloat16)
    loss = losses.token_cross_entropy(logits, TARGETS)
    expected = _one_hot_reference(logits.astype(jnp.float32), TARGETS, 0.0, 0.0)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    gradient = jax.grad(lambda logits: jnp.sum(losses.token_cross_entropy(logits, TARGETS)))(logits)
    assert gradient.dtype == jnp.bfloat16


def test_huge_logits_give_finite_losses_and_gradients():
    loss, gradient = jax.value_and_grad(
        lambda logits: jnp.sum(losses.token_cross_entropy(logits, TARGETS, 1e-4))
    )(1e4 * jnp.asarray(LOGITS))
    assert np.isfinite(loss)
    assert np.all(np.isfinite(gradient))


def test_weighted_cross_entropy_sums_weighs_and_divides():
    weights = jnp.asarray([[1, 1, 0, 0], [1, 0, 0, 0]])
    loss, z_loss, weight_sum = losses.compute_weighted_cross_entropy(
        jnp.asarray(LOGITS), TARGETS, weights, z_loss=1e-2, loss_normalizing_factor=4.0
    )
    tokens = _one_hot_reference(LOGITS, TARGETS, 1e-2, 0.0)
    np.testing.assert_allclose(loss, np.sum(tokens * weights) / 4.0, rtol=1e-5)
    log_z = np.log(np.sum(np.exp(LOGITS), axis=-1))
    np.testing.assert_allclose(z_loss, 1e-2 * np.sum(log_z**2 * weights) / 4.0, rtol=1e-5)
    assert int(weight_sum) == 3
    unweighted = losses.compute_weighted_cross_entropy(jnp.asarray(LOGITS), TARGETS)
    np.testing.assert_allclose(
        unweighted[0], np.sum(_one_hot_reference(LOGITS, TARGETS, 0.0, 0.0)), rtol=1e-5
    )
    assert unweighted[2] == 8


def test_distributions_as_targets_work_as_in_t5x():
    by_id = losses.cross_entropy_with_logits(jnp.asarray(LOGITS), TARGETS, 1e-3)
    by_distribution = losses.cross_entropy_with_logits(jnp.asarray(LOGITS), jax.nn.one_hot(TARGETS, 11), 1e-3)
    for ours, expected in zip(by_id, by_distribution, strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-6)


BATCH = {
    "decoder_target_tokens": jnp.asarray([[5, 6, 7, 1, 0, 0], [9, 1, 0, 0, 0, 0]]),
    "decoder_loss_weights": jnp.asarray([[1, 1, 1, 1, 0, 0], [1, 1, 0, 0, 0, 0]]),
}


@pytest.mark.parametrize("factor", [None, 12.5])
def test_a_plain_factor_is_handed_back(factor):
    given, weights = losses.get_loss_normalizing_factor_and_weights(factor, BATCH)
    assert given == factor
    np.testing.assert_array_equal(weights, BATCH["decoder_loss_weights"])


@pytest.mark.parametrize("batch", [BATCH, {"decoder_target_tokens": BATCH["decoder_target_tokens"]}])
@pytest.mark.parametrize(
    ("name", "expected"),
    [("NUM_REAL_TARGET_TOKENS", 6), ("num_total_target_tokens", 12), ("AVERAGE_PER_SEQUENCE", 2)],
)
def test_special_factors_by_name(name, expected, batch):
    for factor in (name, losses.SpecialLossNormalizingFactor[name.upper()]):
        given, weights = losses.get_loss_normalizing_factor_and_weights(factor, batch)
        np.testing.assert_allclose(given, expected)
        np.testing.assert_array_equal(weights > 0, BATCH["decoder_loss_weights"] > 0)


def test_average_per_sequence_weighs_each_sequence_alike():
    _, weights = losses.get_loss_normalizing_factor_and_weights("AVERAGE_PER_SEQUENCE", BATCH)
    np.testing.assert_allclose(weights, [[0.25] * 4 + [0] * 2, [0.5] * 2 + [0] * 4])


def test_average_per_sequence_weighs_each_segment_of_a_packed_row_alike():
    batch = {
        "decoder_target_tokens": jnp.asarray([[5, 6, 1, 7, 1, 0], [8, 8, 8, 8, 1, 9]]),
        "decoder_segment_ids": jnp.asarray([[1, 1, 1, 2, 2, 0], [1, 1, 1, 1, 1, 2]]),
        "decoder_positions": jnp.asarray([[0, 1, 2, 0, 1, 0], [0, 1, 2, 3, 4, 0]]),
        "decoder_loss_weights": jnp.asarray([[1, 1, 1, 0, 1, 0], [0, 0, 0, 0, 0, 1]]),
    }
    factor, weights = losses.get_loss_normalizing_factor_and_weights("AVERAGE_PER_SEQUENCE", batch)
    third = 1 / 3
    np.testing.assert_allclose(weights, [[third, third, third, 0, 1, 0], [0, 0, 0, 0, 0, 1]], rtol=1e-6)
    np.testing.assert_allclose(factor, 3.0, rtol=1e-6)


def test_errors_name_the_value_and_what_to_use():
    with pytest.raises(ValueError, match=r"'NUM_TOKENS'; .*NUM_REAL_TARGET_TOKENS"):
        losses.get_loss_normalizing_factor_and_weights("NUM_TOKENS", BATCH)
    with pytest.raises(ValueError, match=r"label_smoothing=1\.5"):
        losses.token_cross_entropy(jnp.asarray(LOGITS), TARGETS, 0.0, 1.5)
    # TypeError where jaxtyping checks the annotation first.
    with pytest.raises((ValueError, TypeError), match=r"\(2, 4, 11\) do not fit targets|targets"):
        losses.compute_weighted_cross_entropy(jnp.asarray(LOGITS), TARGETS[:, :3])


def test_padding_with_a_weight_belongs_to_no_sequence():
    batch = {
        "decoder_target_tokens": jnp.array([[5, 6, 0]]),
        "decoder_loss_weights": jnp.array([[1.0, 3.0, 5.0]]),
        "decoder_segment_ids": jnp.array([[1, 1, 0]]),
    }
    factor, weights = losses.get_loss_normalizing_factor_and_weights("AVERAGE_PER_SEQUENCE", batch)
    np.testing.assert_allclose(weights, [[0.25, 0.75, 0.0]])
    assert float(factor) == 1.0
