import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from stepdistill_jax.engine import optimizers

# Not strict about ranks: Optax broadcasts its biases freely.
PARAMS = {"decoder": {"kernel": jnp.linspace(-1.0, 1.0, 6).reshape(2, 3)}, "scale": jnp.ones(3)}
RATES = [0.1, 0.01, 0.5]


def _grads(step):
    return jax.tree.map(lambda param: jnp.cos(param + step), PARAMS)


def _run(optimizer_def, rates):
    optimizer = optimizer_def.create(PARAMS)
    apply = jax.jit(lambda optimizer, grads, rate: optimizer.apply_gradient(grads, learning_rate=rate))
    for step, rate in enumerate(rates):
        optimizer = apply(optimizer, _grads(step), rate)
    return optimizer


def _schedule(step):
    return jnp.asarray(RATES)[step]


def _assert_equal_params(first, second):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), first, second)


@pytest.mark.parametrize(
    ("make", "arguments"),
    [
        (optimizers.adamw, {"weight_decay": 0.1}),
        (optimizers.sgd, {"momentum": 0.9, "nesterov": True}),
        (optimizers.lars, {"momentum": 0.9}),  # its learning rate comes before the momentum
        (optimizers.lion, {}),
    ],
)
def test_the_trainers_learning_rate_does_what_the_same_optax_schedule_does(make, arguments):
    trainers = _run(make(**arguments), RATES)
    own = _run(make(learning_rate=_schedule, **arguments), [0.0] * 3)
    _assert_equal_params(trainers.target, own.target)
    assert int(trainers.state.step) == 3


def test_a_learning_rate_in_the_optimizer_wins_as_in_t5x():
    fixed = _run(optimizers.adam(0.1), [123.0, 4.0, 0.0])
    _assert_equal_params(fixed.target, _run(optimizers.adam(learning_rate=0.1), [None] * 3).target)


def test_a_wrapped_optimizer_is_the_optax_one():
    ours = _run(optimizers.adamw(0.1, weight_decay=0.2), [None] * 3)
    transformation = optax.adamw(0.1, weight_decay=0.2)
    params, state = PARAMS, transformation.init(PARAMS)
    for step in range(3):
        updates, state = transformation.update(_grads(step), state, params)
        params = optax.apply_updates(params, updates)
    _assert_equal_params(ours.target, params)


def test_a_chain_takes_a_list():
    chained = _run(optimizers.chain([optax.clip_by_global_norm(0.1), optax.sgd(1.0)]), [None])
    change = jax.tree.map(jnp.subtract, chained.target, PARAMS)
    np.testing.assert_allclose(optax.tree_utils.tree_norm(change), 0.1, rtol=1e-5)


def test_optimizer_state_has_the_axes_of_the_parameters():
    axes = {"decoder": {"kernel": ("embed", "mlp")}, "scale": ("embed",)}
    optimizer_def = optimizers.chain(
        [optax.clip(1.0), optax.masked(optax.adam(0.1), {"decoder": True, "scale": False})]
    )
    derived = optimizer_def.derive_logical_axes(optimizer_def.create(PARAMS), axes)
    adam = derived.state.param_states[1].inner_state[0]
    assert adam.mu["decoder"] == adam.nu["decoder"] == axes["decoder"]
    assert isinstance(adam.mu["scale"], optax.MaskedNode)
    assert adam.count is None
    specs = jax.tree.map(
        lambda names: jax.sharding.PartitionSpec(*names), axes, is_leaf=lambda leaf: isinstance(leaf, tuple)
    )
    adamw = optimizers.adamw()
    derived = adamw.derive_logical_axes(adamw.create(PARAMS), specs)
    assert derived.state.param_states[0].mu == specs


def test_state_dict_has_no_empty_parts_and_gives_back_the_state():
    optimizer = _run(optimizers.adamw(), RATES)
    saved = optimizer.state_dict()
    assert set(saved["state"]["param_states"]) == {"0"}
    fresh = optimizer.optimizer_def.create(PARAMS).restore_state(saved)
    assert jax.tree.structure(fresh) == jax.tree.structure(optimizer)
    jax.tree.map(np.testing.assert_array_equal, fresh, optimizer)


def test_errors_say_the_mend():
    with pytest.raises(ValueError, match="give the trainer a learning_rate_fn"):
        _run(optimizers.adamw(), [None])
    saved = _run(optimizers.sgd(0.1), [None]).state_dict()
    with pytest.raises(ValueError, match="was written by another optimizer"):
        optimizers.adamw().create(PARAMS).restore_state(saved)
