"""Eq. 3 on packed batches of a tiny student, whole, over devices and in microbatches."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec
from packed_batches import VOCAB_SIZE, only_task, pack

from stepdistill_jax.engine.model.metrics import metric_values
from stepdistill_jax.engine.partition import axis_rules, partitioning
from stepdistill_jax.engine.step.trainer import Trainer, accumulate_gradients

pytestmark = pytest.mark.usefixtures("quick_compilation")
LABEL, RATIONALE = 1, 2


@pytest.fixture(scope="module")
def logits_of(make_student, params):
    """logits_of(batch) -> float64 numpy array [batch, length, vocab]."""
    compute = jax.jit(make_student()._compute_logits)
    return lambda batch: np.asarray(compute(params, batch), np.float64)


@pytest.fixture(scope="module")
def logits(logits_of, packed_batch):
    return logits_of(packed_batch)


@pytest.fixture(scope="module")
def loss_and_gradient(make_student, params):
    """loss_and_gradient(batch, rationale_weight) -> (loss, gradient, metrics as numbers).

    λ is in the batch's loss weights only, so that one compilation serves every λ.
    """
    compiled = jax.jit(jax.value_and_grad(make_student().loss_fn, has_aux=True))

    def run(batch, rationale_weight=1.0):
        weighted = make_student(rationale_weight=rationale_weight).with_loss_weights(batch)
        (loss, metrics), gradient = compiled(params, weighted, None)
        return float(loss), gradient, metric_values(metrics)

    return run


@pytest.fixture
def with_logits(monkeypatch, logits):
    """The model computes `logits` without its network."""

    def patch(model):
        monkeypatch.setattr(model, "_compute_logits", lambda *_: jnp.asarray(logits, jnp.float32))
        return model

    return patch


def token_losses(logits, targets):
    """Cross-entropy of every token, with numpy in float64."""
    log_z = np.log(np.exp(logits).sum(-1))
    return log_z - np.take_along_axis(logits, targets[..., None], -1)[..., 0]


def assert_close(first, second, tolerance=1e-5):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance), first, second)


@pytest.mark.parametrize("rationale_weight", [0.0, 0.5, 1.0])
def test_the_loss_is_equation_3_computed_by_hand(loss_and_gradient, packed_batch, logits, rationale_weight):
    nll = token_losses(logits, packed_batch["decoder_target_tokens"])
    is_label = packed_batch["decoder_task_ids"] == LABEL
    is_rationale = packed_batch["decoder_task_ids"] == RATIONALE
    loss, _, metrics = loss_and_gradient(packed_batch, rationale_weight=rationale_weight)
    np.testing.assert_allclose(
        loss, nll[is_label].mean() + rationale_weight * nll[is_rationale].mean(), rtol=1e-5
    )

    correct = logits.argmax(-1) == packed_batch["decoder_target_tokens"]
    expected = {
        "loss": loss,
        "label_loss": nll[is_label].mean(),
        "rationale_loss": nll[is_rationale].mean(),
        "label_accuracy": correct[is_label].mean(),
        "rationale_accuracy": correct[is_rationale].mean(),
        "label_tokens": is_label.sum(),
        "rationale_tokens": is_rationale.sum(),
    }
    assert set(metrics) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-5, err_msg=name)


def test_a_loss_outside_the_trainer_takes_its_weights_from_its_own_batch(
    make_student, with_logits, loss_and_gradient, packed_batch
):
    for rationale_weight in (0.0, 0.5, 1.0):
        model = with_logits(make_student(rationale_weight=rationale_weight))
        expected = loss_and_gradient(packed_batch, rationale_weight)[0]
        np.testing.assert_allclose(model.loss_fn(None, packed_batch, None)[0], expected, rtol=1e-5)


def test_z_loss_is_weighed_like_the_loss_and_left_out_of_the_task_losses(
    make_student, with_logits, packed_batch, logits
):
    squared = np.log(np.exp(logits).sum(-1)) ** 2
    ids = packed_batch["decoder_task_ids"]
    plain, plain_metrics = with_logits(make_student()).loss_fn(None, packed_batch, None)
    loss, metrics = with_logits(make_student(z_loss=0.01)).loss_fn(None, packed_batch, None)
    expected = 0.01 * (squared[ids == LABEL].mean() + squared[ids == RATIONALE].mean())
    np.testing.assert_allclose(loss - plain, expected, rtol=1e-3)
    for name in ("label_loss", "rationale_loss"):
        np.testing.assert_allclose(metrics[name].compute(), plain_metrics[name].compute(), rtol=1e-6)


def test_lambda_0_is_training_on_the_label_tokens_alone(loss_and_gradient, packed_batch):
    without_rationales = only_task(packed_batch, LABEL)
    loss, gradient, _ = loss_and_gradient(packed_batch, rationale_weight=0.0)
    label_loss, label_gradient, metrics = loss_and_gradient(without_rationales, rationale_weight=1.0)
    np.testing.assert_allclose(loss, label_loss, rtol=1e-6)
    assert_close(gradient, label_gradient, 1e-6)
    assert metrics["rationale_loss"] is None
    assert metrics["rationale_tokens"] == 0


@pytest.mark.parametrize(("task", "name", "other"), [(1, "label", "rationale"), (2, "rationale", "label")])
def test_a_batch_of_one_task_has_its_plain_mean_and_a_finite_gradient(
    loss_and_gradient, logits_of, task, name, other
):
    batch = pack(16, tasks=(task,), seed=1)
    loss, gradient, metrics = loss_and_gradient(batch)
    nll = token_losses(logits_of(batch), batch["decoder_target_tokens"])
    np.testing.assert_allclose(loss, nll[batch["decoder_target_tokens"] > 0].mean(), rtol=1e-5)
    np.testing.assert_allclose(metrics[f"{name}_loss"], loss, rtol=1e-6)
    assert metrics[f"{other}_loss"] is None
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
    assert any(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(gradient))


def test_a_batch_of_padding_has_loss_0_and_gradient_0(loss_and_gradient, packed_batch):
    loss, gradient, _ = loss_and_gradient({name: np.zeros_like(rows) for name, rows in packed_batch.items()})
    assert loss == 0.0
    assert all((np.asarray(leaf) == 0).all() for leaf in jax.tree.leaves(gradient))


def test_ids_at_padded_places_do_not_matter(loss_and_gradient, packed_batch):
    rng = np.random.default_rng(3)
    padding = {
        "encoder_input_tokens": packed_batch["encoder_segment_ids"] == 0,
        "decoder_input_tokens": packed_batch["decoder_segment_ids"] == 0,
        "decoder_target_tokens": packed_batch["decoder_segment_ids"] == 0,
        "decoder_task_ids": packed_batch["decoder_segment_ids"] == 0,
    }
    scribbled = dict(packed_batch)
    for name, places in padding.items():
        ids = rng.integers(1, 3 if name == "decoder_task_ids" else VOCAB_SIZE, places.shape)
        scribbled[name] = np.where(places, ids, packed_batch[name]).astype(np.int32)
    loss, gradient, metrics = loss_and_gradient(packed_batch)
    other_loss, other_gradient, other_metrics = loss_and_gradient(scribbled)
    np.testing.assert_allclose(other_loss, loss, rtol=1e-6)
    assert_close(other_gradient, gradient, 1e-6)
    assert other_metrics == pytest.approx(metrics, rel=1e-5)


def test_more_padding_does_not_change_the_loss(loss_and_gradient, packed_batch):
    longer = {name: np.pad(rows, ((0, 2), (0, 5))) for name, rows in packed_batch.items()}
    loss, gradient, metrics = loss_and_gradient(packed_batch)
    other_loss, other_gradient, other_metrics = loss_and_gradient(longer)
    np.testing.assert_allclose(other_loss, loss, rtol=1e-5)
    assert_close(other_gradient, gradient)
    assert other_metrics == pytest.approx(metrics, rel=1e-5)


def test_examples_packed_into_a_row_do_not_see_each_other(logits_of, packed_batch, logits):
    changed = dict(packed_batch)
    for name in ("encoder", "decoder"):
        tokens = f"{name}_input_tokens"
        first = packed_batch[f"{name}_segment_ids"] == 1
        changed[tokens] = np.where(first, (packed_batch[tokens] + 5) % 38 + 1, packed_batch[tokens]).astype(
            np.int32
        )
    others = packed_batch["decoder_segment_ids"] > 1
    assert others.sum() > 50
    np.testing.assert_allclose(logits_of(changed)[others], logits[others], rtol=1e-5, atol=1e-5)


@pytest.fixture(scope="module")
def whole_step(make_student, packed_batch, new_state):
    """(gradient, metrics, parameters after a step of Adafactor) of the whole batch on one device."""
    model = make_student()

    @jax.jit
    def step(state, batch):
        gradient, metrics = accumulate_gradients(model, state.params, batch, None, None)
        return gradient, metrics, state.apply_gradient(gradient, 0.1).params

    gradient, metrics, params = step(new_state(), packed_batch)
    return gradient, metric_values(metrics), params


# name -> (model devices, parameters split over 'data' too, microbatches); the rest of the 8 devices is 'data'.
GRADIENT_SPLITS = {
    "1 data x 8 model": (8, False, None),
    "8 data, 2 microbatches": (1, False, 2),
    "4 data x 2 model, FSDP, 4 microbatches": (2, True, 4),
}
STEP_SPLITS = {
    "8 data": (1, False, None),
    "4 data x 2 model": (2, False, None),
    "4 data x 2 model, FSDP, 2 microbatches": (2, True, 2),
}


def partitioner_of(num_partitions, fsdp):
    rules = axis_rules.standard_logical_axis_rules(1, 2) if fsdp else None
    return partitioning.PjitPartitioner(num_partitions=num_partitions, logical_axis_rules=rules)


@pytest.mark.parametrize("split", GRADIENT_SPLITS)
def test_devices_and_microbatches_do_not_change_loss_metrics_and_gradient(
    make_student, packed_batch, new_state, whole_step, split
):
    num_partitions, fsdp, microbatches = GRADIENT_SPLITS[split]
    model = make_student()
    partitioner = partitioner_of(num_partitions, fsdp)
    state = new_state()
    axes = partitioner.get_mesh_axes(state).params
    gradient_of = partitioner.partition(
        lambda params, batch: accumulate_gradients(model, params, batch, None, microbatches),
        in_axis_resources=(axes, partitioner.data_partition_spec),
        out_axis_resources=(axes, PartitionSpec()),
    )
    params = jax.device_put(state.params, partitioner.shardings(axes))
    gradient, metrics = gradient_of(params, partitioner.global_batch(packed_batch))
    assert_close(gradient, whole_step[0])
    assert metric_values(metrics) == pytest.approx(whole_step[1], rel=1e-5)


@pytest.mark.parametrize("split", STEP_SPLITS)
def test_devices_and_microbatches_do_not_change_a_training_step(
    make_student, packed_batch, new_state, whole_step, split
):
    num_partitions, fsdp, microbatches = STEP_SPLITS[split]
    partitioner = partitioner_of(num_partitions, fsdp)
    state = new_state()
    axes = partitioner.get_mesh_axes(state)
    trainer = Trainer(
        make_student(), axes, partitioner, jax.random.key(1), lambda step: jnp.float32(0.1), microbatches
    )
    state = jax.device_put(state, partitioner.shardings(axes))
    state, metrics, learning_rate = trainer.train_step(state, partitioner.global_batch(packed_batch))
    assert int(state.step) == 1
    assert float(learning_rate) == pytest.approx(0.1)
    assert metric_values(metrics) == pytest.approx(whole_step[1], rel=1e-5)
    assert_close(state.params, whole_step[2], 2e-5)


def test_settings_that_equation_3_has_not_are_refused(make_student):
    with pytest.raises(ValueError, match=r"rationale_weight=-1.0 .*use 0 or more"):
        make_student(rationale_weight=-1.0)
    with pytest.raises(ValueError, match=r"label_smoothing=0.1"):
        make_student(label_smoothing=0.1)
    with pytest.raises(ValueError, match=r"NUM_REAL_TARGET_TOKENS"):
        make_student(loss_normalizing_factor="NUM_REAL_TARGET_TOKENS")
