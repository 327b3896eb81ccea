import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stepdistill_jax.student.loss import StepByStepLoss, task_mask, token_cross_entropy, token_loss_weights

TASK_IDS = np.array([[1, 1, 2, 2, 2], [2, 1, 0, 0, 0]], np.int32)  # 3 label tokens, 4 rationale tokens
LOSS_WEIGHTS = (TASK_IDS > 0).astype(np.int32)


def test_cross_entropy_is_the_negative_log_softmax_at_the_target():
    logits = np.random.default_rng(0).normal(size=(2, 3, 7)).astype(np.float32)
    targets = np.array([[0, 6, 2], [3, 3, 1]], np.int32)
    exponentials = np.exp(logits.astype(np.float64))
    log_z = np.log(exponentials.sum(-1))
    expected = log_z - np.take_along_axis(logits, targets[..., None], -1)[..., 0]
    np.testing.assert_allclose(
        token_cross_entropy(jnp.asarray(logits), jnp.asarray(targets)), expected, rtol=1e-5
    )
    regularised = token_cross_entropy(jnp.asarray(logits), jnp.asarray(targets), z_loss=0.1)
    np.testing.assert_allclose(regularised, expected + 0.1 * log_z**2, rtol=1e-5)


def test_the_softmax_of_bfloat16_logits_runs_in_float32():
    logits = jnp.asarray(np.random.default_rng(0).normal(size=(1, 2, 1000)), jnp.bfloat16)
    targets = jnp.zeros((1, 2), jnp.int32)
    half = token_cross_entropy(logits, targets)
    assert half.dtype == jnp.float32
    np.testing.assert_allclose(half, token_cross_entropy(logits.astype(jnp.float32), targets), rtol=1e-6)


def test_each_task_is_averaged_over_its_own_tokens_and_rationales_count_lambda():
    weights = token_loss_weights(TASK_IDS, LOSS_WEIGHTS, rationale_weight=0.5)
    expected = [[1 / 3, 1 / 3, 0.5 / 4, 0.5 / 4, 0.5 / 4], [0.5 / 4, 1 / 3, 0, 0, 0]]
    np.testing.assert_allclose(weights, expected, rtol=1e-6)
    assert weights.dtype == jnp.float32


def test_float_loss_weights_and_integer_ones_mean_the_same():
    as_int = token_loss_weights(TASK_IDS, LOSS_WEIGHTS, rationale_weight=1.0)
    as_float = token_loss_weights(TASK_IDS, LOSS_WEIGHTS.astype(np.float32), rationale_weight=1.0)
    np.testing.assert_array_equal(as_int, as_float)


@pytest.mark.parametrize("task", [1, 2])
def test_a_task_without_tokens_weighs_nothing(task):
    ids = np.where(task == TASK_IDS, task, 0)
    weights = token_loss_weights(ids, LOSS_WEIGHTS, rationale_weight=1.0)
    np.testing.assert_allclose(np.sum(weights), 1.0, rtol=1e-6)
    np.testing.assert_array_equal(weights > 0, task == TASK_IDS)


def test_a_batch_of_padding_weighs_nothing():
    nothing = np.zeros((2, 3), np.int32)
    weights = jax.jit(token_loss_weights, static_argnames="rationale_weight")(
        nothing, nothing, rationale_weight=1.0
    )
    np.testing.assert_array_equal(weights, np.zeros((2, 3)))


def test_a_mask_holds_the_real_tokens_of_one_task():
    weights = LOSS_WEIGHTS.copy()
    weights[0, 1] = 0
    np.testing.assert_array_equal(task_mask(TASK_IDS, weights, 1), [[1, 0, 0, 0, 0], [0, 1, 0, 0, 0]])


def test_batches_merge_to_the_loss_of_all_their_tokens():
    """Two batches with 2 and 6 label tokens, 1 and 3 rationale tokens: their mean of means would be another number."""
    weights = jnp.array([1.0, 0.5])
    first = StepByStepLoss(totals=jnp.array([4.0, 3.0]), counts=jnp.array([2.0, 1.0]), weights=weights)
    second = StepByStepLoss(totals=jnp.array([6.0, 1.0]), counts=jnp.array([6.0, 3.0]), weights=weights)
    assert float(first.merge(second).compute()) == pytest.approx(10 / 8 + 0.5 * 4 / 4)
    assert float(first.compute() + second.compute()) / 2 == pytest.approx((2 + 1.5 + 1 + 0.5 / 3) / 2)


def test_a_task_without_tokens_adds_nothing_to_the_merged_loss():
    loss = StepByStepLoss(
        totals=jnp.array([4.0, 0.0]), counts=jnp.array([2.0, 0.0]), weights=jnp.array([1.0, 1.0])
    )
    assert float(loss.compute()) == 2.0
