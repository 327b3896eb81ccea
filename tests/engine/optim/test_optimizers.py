import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import traverse_util

from stepdistill_jax.engine.optim import adafactor, optimizers

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


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("adabelief", {}), ("adagrad", {}), ("adam", {}), ("adamw", {}), ("fromage", {}), ("lamb", {}), ("lars", {}), ("lion", {}),
        ("noisy_sgd", {"key": jax.random.key(3)}), ("radam", {}), ("rmsprop", {}), ("sgd", {}), ("yogi", {}),
    ],
)  # fmt: skip
def test_every_name_of_t5x_is_optax_s_optimizer_of_that_name(name, arguments):
    ours = _run(getattr(optimizers, name)(0.1, **arguments), [None] * 2)
    theirs = _run(optimizers.chain([getattr(optax, name)(0.1, **arguments)]), [None] * 2)
    _assert_equal_params(ours.target, theirs.target)
    assert not np.allclose(ours.target["scale"], PARAMS["scale"])


def test_dpsgd_takes_a_gradient_of_each_example():
    private = optimizers.dpsgd(0.1, l2_norm_clip=1.0, noise_multiplier=0.0, seed=0)
    grads = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), _grads(0))
    changed = private.create(PARAMS).apply_gradient(grads, learning_rate=None)
    change = jax.tree.map(jnp.subtract, changed.target, PARAMS)
    assert float(optax.tree_utils.tree_norm(change)) <= 0.1 + 1e-6
    assert not np.allclose(changed.target["scale"], PARAMS["scale"])


def test_models_of_t5x_users_may_name_the_type_of_their_optimizer():
    assert isinstance(optimizers.adamw(), optimizers.OptimizerDefType)
    assert isinstance(adafactor.Adafactor(), optimizers.OptimizerDefType)


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


def kernels_and_biases(kernel_optimizer, bias_optimizer):
    def picks(name):
        return traverse_util.ModelParamTraversal(lambda path, _: path.endswith(name))

    return optimizers.MultiOptimizer([(picks("kernel"), kernel_optimizer), (picks("bias"), bias_optimizer)])


PARAMS_OF_TWO_KINDS = {
    "dense": {"kernel": jnp.ones((2, 3)), "bias": jnp.ones((3,))},
    "norm": {"scale": jnp.ones((2,))},
}


def test_a_multi_optimizer_gives_each_parameter_the_step_of_its_own_optimizer():
    optimizer = kernels_and_biases(optimizers.sgd(learning_rate=0.1), optimizers.sgd(learning_rate=0.5))
    state = optimizer.init_state(PARAMS_OF_TWO_KINDS)
    grads = jax.tree.map(jnp.ones_like, PARAMS_OF_TWO_KINDS)
    params, state = optimizer.apply_gradient(optimizer.hyper_params, PARAMS_OF_TWO_KINDS, state, grads)
    assert int(state.step) == 1
    np.testing.assert_allclose(params["dense"]["kernel"], 0.9)
    np.testing.assert_allclose(params["dense"]["bias"], 0.5)
    np.testing.assert_array_equal(params["norm"]["scale"], 1.0)  # nobody's


def test_a_multi_optimizer_keeps_the_states_of_adafactor_and_optax_apart_over_steps():
    factored, plain = adafactor.Adafactor(learning_rate=0.1), optimizers.adamw(learning_rate=0.01)
    both = kernels_and_biases(factored, plain)
    kernels = {"dense": {"kernel": PARAMS_OF_TWO_KINDS["dense"]["kernel"]}}
    biases = {"dense": {"bias": PARAMS_OF_TWO_KINDS["dense"]["bias"]}}
    runs = [(both, PARAMS_OF_TWO_KINDS), (factored, kernels), (plain, biases)]
    results = []
    for optimizer, params in runs:
        state = optimizer.init_state(params)
        for step in range(3):
            grads = jax.tree.map(lambda leaf, step=step: leaf * (step + 1.0), params)
            hyper_params = optimizer.update_hyper_params(learning_rate=0.1)
            apply = jax.jit(functools.partial(optimizer.apply_gradient, hyper_params))
            params, state = apply(params, state, grads)
        results.append((params, state))
    together = results[0][0]["dense"]
    np.testing.assert_allclose(together["kernel"], results[1][0]["dense"]["kernel"], rtol=1e-6)
    np.testing.assert_allclose(together["bias"], results[2][0]["dense"]["bias"], rtol=1e-6)
    assert set(results[0][1].param_states) == {"dense", "optimizer_1"}  # Adafactor's as T5X has it
    axes = both.state_logical_axes(
        results[0][1],
        {"dense": {"kernel": ("embed", "mlp"), "bias": ("mlp",)}, "norm": {"scale": ("embed",)}},
    )
    assert ("mlp",) in jax.tree.leaves(
        axes.param_states, is_leaf=lambda leaf: isinstance(leaf, tuple) and leaf == ("mlp",)
    )


def test_a_parameter_of_two_optimizers_is_refused_by_name():
    every = traverse_util.ModelParamTraversal(lambda path, _: True)
    optimizer = optimizers.MultiOptimizer([(every, optimizers.sgd(0.1)), (every, optimizers.sgd(0.2))])
    with pytest.raises(ValueError, match=r"same leaves: dense/bias, dense/kernel, norm/scale"):
        optimizer.init_state(PARAMS_OF_TWO_KINDS)
