"""How a stack is run (scanned or unrolled, which activations are kept) changes no number."""

import jax
import numpy as np
import pytest

from stepdistill_jax.engine.optim import adafactor

pytestmark = pytest.mark.usefixtures("quick_compilation")
PER_LAYER = {"relpos_bias_in_every_layer": True}


@pytest.fixture(scope="module")
def loss_and_gradient(make_model, make_batch):
    """loss_and_gradient(config_changes, params) -> (loss, gradient) with dropout on, by what compiles soonest."""

    def run(config_changes, params):
        model = make_model(config_changes)
        gradient = jax.jit(jax.value_and_grad(model.loss_fn, has_aux=True))
        (loss, _), grads = gradient(params, make_batch(), jax.random.key(5, impl="unsafe_rbg"))
        return float(loss), grads

    return run


@pytest.mark.parametrize(
    ("config_changes", "ways"),
    [
        ({}, [(True, "none"), (True, "minimal"), (False, "full")]),
        pytest.param(PER_LAYER, [(True, "full")], marks=pytest.mark.slow),
    ],
    ids=["shared_bias", "bias_in_every_layer"],
)
def test_scanned_and_unrolled_stacks_with_or_without_remat_agree(
    loss_and_gradient, make_model, make_params, config_changes, ways
):
    unrolled = {"scan_layers": False, **config_changes}
    params = make_params(make_model(unrolled))
    expected_loss, expected = loss_and_gradient(unrolled, params)
    for scan_layers, remat_policy in ways:
        changes = {"scan_layers": scan_layers, "remat_policy": remat_policy, **config_changes}
        loss, grads = loss_and_gradient(changes, params)
        np.testing.assert_allclose(loss, expected_loss, rtol=1e-6, err_msg=str(changes))
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), grads, expected)


def test_steps_of_scanned_and_unrolled_stacks_agree(make_model, make_params, make_batch):
    def train(scan_layers):
        model = make_model({"scan_layers": scan_layers}, loss_normalizing_factor="NUM_REAL_TARGET_TOKENS")
        optimizer = adafactor.Adafactor(learning_rate=0.01)

        @jax.jit
        def step(params, state):
            (loss, _), grads = jax.value_and_grad(model.loss_fn, has_aux=True)(params, make_batch(), None)
            return loss, *optimizer.apply_gradient(optimizer.hyper_params, params, state, grads)

        params = make_params(model)  # the same, from the same paths and keys, however the stack is run
        state = optimizer.init_state(params)
        losses = []
        for _ in range(4):
            loss, params, state = step(params, state)
            losses.append(float(loss))
        return losses

    scanned, unrolled = train(True), train(False)
    np.testing.assert_allclose(scanned, unrolled, rtol=1e-5)
    assert scanned[-1] < scanned[0]


def test_only_a_scanned_stack_is_one_loop(make_model, make_params, make_batch):
    def num_loops(scan_layers):
        model = make_model({"scan_layers": scan_layers})
        shapes = jax.eval_shape(lambda: make_params(model))
        return str(jax.make_jaxpr(model._compute_logits)(shapes, make_batch())).count("scan[")

    assert (num_loops(True), num_loops(False)) == (2, 0)  # encoder and decoder


def test_remat_keeps_fewer_activations(make_model, make_params, make_batch):
    def residual_bytes(remat_policy):
        model = make_model({"remat_policy": remat_policy, "scan_layers": True, "dropout_rate": 0.0})
        batch = make_batch(rows=8, input_length=64, target_length=64)
        _, backward = jax.eval_shape(
            lambda params: jax.vjp(lambda p: model.loss_fn(p, batch, None)[0], params),
            jax.eval_shape(lambda: make_params(model)),
        )
        return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(backward))

    kept = [residual_bytes(policy) for policy in ("none", "minimal", "full")]
    assert kept[0] > kept[1] > kept[2]


def test_cached_decoding_with_a_bias_in_every_layer_gives_the_teacher_forced_logits(
    make_model, make_params, make_batch
):
    model = make_model(PER_LAYER)
    params = make_params(model)
    batch = make_batch(rows=2)
    tokens, _ = jax.jit(
        lambda p: model.predict_batch_with_aux(p, batch, decoder_params={"temperature": 0.0})
    )(params)
    # Greedy tokens are the most probable ones given those before them.
    shifted = np.pad(np.asarray(tokens), ((0, 0), (1, 0)))[:, :-1]
    forced = {**batch, "decoder_input_tokens": shifted, "decoder_target_tokens": np.maximum(tokens, 1)}
    best = np.argmax(jax.jit(model._compute_logits)(params, forced), axis=-1)
    real = np.cumsum(np.asarray(tokens) == 1, axis=1) - (np.asarray(tokens) == 1) == 0
    np.testing.assert_array_equal(np.where(real, tokens, 0), np.where(real, best, 0))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"remat_policy": "everything"}, "remat_policy='everything'"),
    ],
)
def test_a_policy_that_is_not_there_is_named(tiny_config, changes, named):
    with pytest.raises(ValueError, match=named):
        tiny_config.replace(**changes)
