"""The training step, on a model of four numbers where every value can be worked out, and once on a T5."""

import clu.metrics
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.linen import partitioning as flax_partitioning

from stepdistill_jax.engine.model import base_model, metrics
from stepdistill_jax.engine.model.metrics import metric_values
from stepdistill_jax.engine.optim import adafactor, optimizers
from stepdistill_jax.engine.optim.train_state import FlaxOptimTrainState
from stepdistill_jax.engine.partition.axis_rules import standard_logical_axis_rules
from stepdistill_jax.engine.partition.partitioning import PjitPartitioner
from stepdistill_jax.engine.step.initialize import abstract_train_state
from stepdistill_jax.engine.step.trainer import Trainer, accumulate_gradients

pytestmark = pytest.mark.usefixtures("quick_compilation")
RATE = 0.1


class Line(base_model.BaseModel):
    """Predicts features · w; the loss is the mean square error over the batch. With a key, noise is added to features."""

    def with_loss_weights(self, batch):
        return {**batch, "loss_weights": jnp.full(batch["targets"].shape, 1.0 / len(batch["targets"]))}

    def loss_fn(self, params, batch, dropout_rng):
        features = batch["features"]
        if dropout_rng is not None and self.noise:
            features = features + self.noise * jax.random.normal(dropout_rng, features.shape)
        squares = jnp.square(features @ params["w"] - batch["targets"])
        loss = jnp.sum(squares * batch["loss_weights"])
        found = {
            "loss": metrics.AveragePerStep(total=loss, steps=1),
            "square": clu.metrics.Average(total=jnp.sum(squares), count=len(squares)),
            "nothing": clu.metrics.Average(total=jnp.float32(0), count=jnp.int32(0)),
            "rows": metrics.Sum(total=jnp.float32(len(squares))),
        }
        return loss, found

    def __init__(self, optimizer_def, noise=0.0):
        super().__init__(optimizer_def)
        self.noise = noise

    def get_initial_variables(self, rng, input_shapes, input_types=None):
        axes = {"w_axes": flax_partitioning.AxisMetadata(("mlp",))}
        return {"params": {"w": jnp.arange(4.0)}, "params_axes": axes}

    def predict_batch_with_aux(self, params, batch, rng=None):
        return batch["features"] @ params["w"], {}

    def score_batch(self, params, batch, return_intermediates=False):
        return -jnp.square(batch["features"] @ params["w"] - batch["targets"])


@pytest.fixture
def line_batch():
    rng = np.random.default_rng(0)
    return {
        "features": rng.normal(size=(16, 4)).astype(np.float32),
        "targets": rng.normal(size=16).astype(np.float32),
    }


def make_line(
    *, num_partitions=2, num_microbatches=None, noise=0.0, learning_rate_fn=lambda step: jnp.float32(RATE)
):
    """(trainer, state, partitioner) of a Line trained by plain gradient descent."""
    model = Line(optimizers.sgd(), noise)
    partitioner = PjitPartitioner(num_partitions=num_partitions)
    state = FlaxOptimTrainState.create(model.optimizer_def, model.get_initial_variables(None, {}))
    axes = partitioner.get_mesh_axes(state)
    trainer = Trainer(model, axes, partitioner, jax.random.key(1), learning_rate_fn, num_microbatches)
    return trainer, jax.device_put(state, partitioner.shardings(axes)), partitioner


def gradient_by_hand(batch, w):
    return 2 * batch["features"].T @ (batch["features"] @ w - batch["targets"]) / len(batch["targets"])


@pytest.mark.parametrize("num_partitions", [1, 2, 4])
@pytest.mark.parametrize("num_microbatches", [None, 1, 2])
def test_a_step_is_the_gradient_of_the_whole_batch(line_batch, num_partitions, num_microbatches):
    trainer, state, partitioner = make_line(num_partitions=num_partitions, num_microbatches=num_microbatches)
    w = np.arange(4.0)
    square = np.mean((line_batch["features"] @ w - line_batch["targets"]) ** 2)
    state, found, learning_rate = trainer.train_step(state, partitioner.global_batch(line_batch))
    np.testing.assert_allclose(state.params["w"], w - RATE * gradient_by_hand(line_batch, w), rtol=1e-5)
    assert float(learning_rate) == pytest.approx(RATE)
    assert metric_values(found) == {
        "loss": pytest.approx(square, rel=1e-5),
        "square": pytest.approx(square, rel=1e-5),
        "nothing": None,
        "rows": 16.0,
    }
    assert {shard.data.shape for shard in state.params["w"].addressable_shards} == {(4 // num_partitions,)}


def test_steps_follow_the_schedule(line_batch):
    trainer, state, partitioner = make_line(learning_rate_fn=lambda step: 0.1 / (step + 1))
    w = np.arange(4.0)
    for step in range(3):
        state, _, learning_rate = trainer.train_step(state, partitioner.global_batch(line_batch))
        assert float(learning_rate) == pytest.approx(0.1 / (step + 1))
        assert int(state.step) == step + 1
        w = w - 0.1 / (step + 1) * gradient_by_hand(line_batch, w)
    np.testing.assert_allclose(state.params["w"], w, rtol=1e-5)


@pytest.mark.parametrize("num_microbatches", [None, 2])
def test_dropout_depends_on_the_step_and_not_on_where_the_run_began(line_batch, num_microbatches):
    def run(trainer, state, steps):
        losses = []
        for _ in range(steps):
            state, found, _ = trainer.train_step(state, partitioner.global_batch(line_batch))
            losses.append(float(found["loss"].compute()))
        return state, losses

    settings = {
        "noise": 1.0,
        "num_microbatches": num_microbatches,
        "learning_rate_fn": lambda step: jnp.float32(0),
    }
    trainer, state, partitioner = make_line(**settings)
    _, whole = run(trainer, state, 4)
    assert len(set(whole)) == 4
    trainer, state, _ = make_line(**settings)
    resumed = state.replace(step=jax.device_put(jnp.int32(2), state.step.sharding))
    assert run(trainer, resumed, 2)[1] == whole[2:]


def test_microbatches_have_different_dropout():
    model = Line(optimizers.sgd(), noise=1.0)
    same = {"features": jnp.zeros((2, 4)), "targets": jnp.zeros(2)}
    params = {"w": jnp.ones(4)}
    _, whole = accumulate_gradients(model, params, same, jax.random.key(0), 2)
    first = jax.random.fold_in(jax.random.key(0), 0)
    _, one = accumulate_gradients(model, params, {k: v[:1] for k, v in same.items()}, first, None)
    assert float(whole["square"].compute()) != pytest.approx(float(one["square"].compute()), rel=1e-3)


def test_evaluation_has_no_dropout_and_changes_nothing(line_batch):
    trainer, state, partitioner = make_line(noise=5.0)
    batch = partitioner.global_batch(line_batch)
    square = np.mean((line_batch["features"] @ np.arange(4.0) - line_batch["targets"]) ** 2)
    for _ in range(2):
        assert metric_values(trainer.eval_step(state.params, batch))["loss"] == pytest.approx(
            square, rel=1e-5
        )


@pytest.mark.parametrize("value", ["all", "4", "", -1, 2.0, True])
def test_a_number_of_microbatches_that_is_none_is_refused(value):
    with pytest.raises(
        ValueError, match=r"^num_microbatches=.*; use 1 or more, None .*, or 'auto' "
    ) as error:
        make_line(num_microbatches=value)
    assert f"num_microbatches={value!r}; " in str(error.value)


def test_a_trainer_whose_number_is_not_found_yet_takes_no_step(line_batch):
    trainer, state, partitioner = make_line(num_microbatches="auto")
    with pytest.raises(
        ValueError, match=r"num_microbatches='auto' is no number yet; .*with_microbatches\(1\)\.$"
    ):
        trainer.train_step(state, partitioner.global_batch(line_batch))
    square = np.mean((line_batch["features"] @ np.arange(4.0) - line_batch["targets"]) ** 2)
    evaluated = trainer.eval_step(state.params, partitioner.global_batch(line_batch))
    assert metric_values(evaluated)["loss"] == pytest.approx(square, rel=1e-5)


def test_another_number_of_microbatches_is_another_trainer(line_batch):
    auto, state, partitioner = make_line(num_microbatches="auto", noise=1.0)
    batch = partitioner.global_batch(line_batch)
    for number in (1, 2):
        given, same, _ = make_line(num_microbatches=number, noise=1.0)
        copied = jax.tree.map(lambda leaf: jax.device_put(np.array(leaf), leaf.sharding), state)
        _, found, _ = auto.with_microbatches(number).train_step(copied, batch)
        _, expected, _ = given.train_step(same, batch)
        assert metric_values(found) == metric_values(expected)
    assert auto.num_microbatches == "auto"
    assert auto.with_microbatches(2).num_microbatches == 2


def test_a_t5_takes_the_same_step_over_a_mesh_in_microbatches(make_model, make_batch):
    """Rows differ in length, so a mean taken in each microbatch or on each device would not be the batch's mean."""
    changes = {"dropout_rate": 0.0, "num_encoder_layers": 1, "num_decoder_layers": 1}
    model = make_model(changes, loss_normalizing_factor="NUM_REAL_TARGET_TOKENS", z_loss=1e-3)
    model.optimizer_def = adafactor.Adafactor()
    batch = jax.tree.map(np.asarray, make_batch(rows=16))
    abstract = abstract_train_state(model, {name: rows.shape for name, rows in batch.items()}, {})
    rng = np.random.default_rng(0)
    state = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), abstract).replace(
        params=jax.tree.map(
            lambda leaf: jnp.asarray(rng.normal(0, 0.2, leaf.shape), jnp.float32), abstract.params
        )
    )

    @jax.jit
    def whole_step(state):
        grads, found = accumulate_gradients(model, state.params, batch, None, None)
        return state.apply_gradient(grads, RATE), found

    expected, expected_metrics = whole_step(state)

    partitioner = PjitPartitioner(num_partitions=2, logical_axis_rules=standard_logical_axis_rules(1, 2))
    axes = partitioner.get_mesh_axes(state)
    trainer = Trainer(model, axes, partitioner, jax.random.key(1), lambda step: jnp.float32(RATE), 2)
    state = jax.device_put(state, partitioner.shardings(axes))
    state, found, _ = trainer.train_step(state, partitioner.global_batch(batch))
    jax.tree.map(
        lambda ours, theirs: np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=2e-5),
        (state.params, state.param_states),
        (expected.params, expected.param_states),
    )
    for name in ("loss", "accuracy", "z_loss", "cross_ent_loss"):
        np.testing.assert_allclose(
            found[name].compute(), expected_metrics[name].compute(), rtol=1e-5, err_msg=name
        )
