"""Adafactor against the paper's formulas (arXiv:1804.04235, Algorithms 4 and 6) written out in NumPy, float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stepdistill_jax.engine.optim import adafactor, optimizers

pytestmark = pytest.mark.usefixtures("strict_ranks")
LEARNING_RATE = 0.02


def _rms(values):
    return np.sqrt(np.mean(values**2))


def _reference(param, grads, *, is_factored, **settings):
    """The parameter after a step with each gradient."""
    beta1 = settings.get("beta1")
    weight_decay = settings.get("weight_decay", 0.0)
    clipping_threshold = settings.get("clipping_threshold", 1.0)
    row = column = moment = momentum = 0.0
    for step, grad in enumerate(grads, start=1):
        beta2 = 1.0 - step**-0.8
        squared = grad**2 + 1e-30
        if is_factored:
            row = beta2 * row + (1 - beta2) * squared.mean(axis=1)
            column = beta2 * column + (1 - beta2) * squared.mean(axis=0)
            moment = np.outer(row, column) / row.mean()
        else:
            moment = beta2 * moment + (1 - beta2) * squared
        update = grad / np.sqrt(moment)
        if clipping_threshold:
            update = update / max(1.0, _rms(update) / clipping_threshold)
        update = update * LEARNING_RATE * (max(_rms(param), 1e-3) if settings.get("relative", True) else 1.0)
        if beta1 is not None:
            momentum = update = beta1 * momentum + (1 - beta1) * update
        param = (1 - weight_decay) * param - update
    return param


def _data(shape, num_steps=3):
    rng = np.random.default_rng(0)
    param = 0.3 * rng.standard_normal(shape)
    scales = np.exp(rng.standard_normal(shape))  # moments of different sizes, so that factoring matters
    return param, [scales * rng.standard_normal(shape) for _ in range(num_steps)]


def _run(optimizer, param, grads, axes=None):
    if axes is not None:
        optimizer.set_param_axes({"layer": {"kernel": axes}})
    params = {"layer": {"kernel": jnp.asarray(param, jnp.float32)}}
    state = optimizer.init_state(params)
    hyper_params = optimizer.update_hyper_params(learning_rate=LEARNING_RATE)
    for grad in grads:
        grads_tree = {"layer": {"kernel": jnp.asarray(grad, jnp.float32)}}
        params, state = optimizer.apply_gradient(hyper_params, params, state, grads_tree)
    return np.asarray(params["layer"]["kernel"]), state


@pytest.mark.parametrize("shape", [(160, 130), (130, 160), (128, 128)])
def test_large_matrices_are_factored(shape):
    param, grads = _data(shape)
    ours, state = _run(adafactor.Adafactor(), param, grads)
    np.testing.assert_allclose(ours, _reference(param, grads, is_factored=True), rtol=2e-5, atol=1e-6)
    moments = state.param_states["layer"]["kernel"]
    assert {moments["v_row"].shape, moments["v_col"].shape} == {(shape[0],), (shape[1],)}
    assert moments["v"].shape == moments["m"].shape == (1,)
    assert int(state.step) == 3


@pytest.mark.parametrize("shape", [(7,), (160, 8)])
def test_vectors_and_small_matrices_are_not_factored(shape):
    param, grads = _data(shape)
    ours, state = _run(adafactor.Adafactor(), param, grads)
    np.testing.assert_allclose(ours, _reference(param, grads, is_factored=False), rtol=2e-5, atol=1e-6)
    assert state.param_states["layer"]["kernel"]["v"].shape == shape


@pytest.mark.parametrize(
    ("arguments", "settings"),
    [
        ({"factored": False}, {"is_factored": False}),
        ({"min_dim_size_to_factor": 256}, {"is_factored": False}),
        ({"beta1": 0.9}, {"is_factored": True, "beta1": 0.9}),
        ({"weight_decay_rate": 0.1}, {"is_factored": True, "weight_decay": 0.1}),
        ({"weight_decay_rate_lr_exponent": 2.0}, {"is_factored": True, "weight_decay": LEARNING_RATE**2}),
        ({"clipping_threshold": None}, {"is_factored": True, "clipping_threshold": None}),
        ({"multiply_by_parameter_scale": False}, {"is_factored": True, "relative": False}),
        (
            {"multiply_by_parameter_scale": adafactor.HParamMap([("kernel", False), (".*", True)])},
            {"is_factored": True, "relative": False},
        ),
    ],
)
def test_settings_do_what_they_say(arguments, settings):
    param, grads = _data((160, 130))
    ours, _ = _run(adafactor.Adafactor(**arguments), param, grads)
    np.testing.assert_allclose(ours, _reference(param, grads, **settings), rtol=5e-5, atol=2e-6)


def test_step_offset_starts_the_decay_anew():
    param, grads = _data((160, 130), num_steps=1)
    optimizer = adafactor.Adafactor(step_offset=1000)
    params = {"kernel": jnp.asarray(param, jnp.float32)}
    state = optimizer.init_state(params).replace(step=jnp.asarray(1000, jnp.int32))
    hyper_params = optimizer.update_hyper_params(learning_rate=LEARNING_RATE)
    params, state = optimizer.apply_gradient(
        hyper_params, params, state, {"kernel": jnp.asarray(grads[0], jnp.float32)}
    )
    np.testing.assert_allclose(
        params["kernel"], _reference(param, grads, is_factored=True), rtol=2e-5, atol=1e-6
    )
    assert int(state.step) == 1001


def test_gradients_are_clipped_by_their_global_norm():
    param, grads = _data((160, 130))
    norm = np.linalg.norm(grads[0])
    # Adafactor does not see a scale that stays the same, so the first gradient alone is made larger.
    large = [10.0 * grads[0], *grads[1:]]
    clipped = [grad * min(1.0, norm / np.linalg.norm(grad)) for grad in large]
    ours, _ = _run(adafactor.Adafactor(global_norm_clip_threshold=float(norm)), param, large)
    np.testing.assert_allclose(ours, _reference(param, clipped, is_factored=True), rtol=5e-5, atol=2e-6)


def test_stacked_parameters_are_as_good_as_apart():
    rules = adafactor.standard_logical_factor_rules()
    param, grads = _data((2, 160, 130))
    param[1] *= 5.0
    optimizer = adafactor.Adafactor(logical_factor_rules=rules, beta1=0.9)
    stacked, state = _run(optimizer, param, grads, axes=("layers", "embed", "mlp"))
    for layer in range(2):
        alone = _reference(param[layer], [grad[layer] for grad in grads], is_factored=True, beta1=0.9)
        np.testing.assert_allclose(stacked[layer], alone, rtol=5e-5, atol=2e-6)
    moments = state.param_states["layer"]["kernel"]
    assert (moments["v_row"].shape, moments["v_col"].shape) == ((2, 160), (2, 130))


def test_nan_updates_can_be_skipped():
    param, grads = _data((7,), num_steps=2)
    grads[1][3] = np.nan
    ours, state = _run(adafactor.Adafactor(clipping_threshold=None, skip_nan_updates=True), param, grads)
    without, _ = _run(adafactor.Adafactor(clipping_threshold=None), param, grads[:1])
    assert ours[3] == without[3]
    assert not np.any(np.isnan(ours))
    assert not np.any(np.isnan(state.param_states["layer"]["kernel"]["v"]))


def test_largest_parameter_scale_bounds_the_step():
    param, grads = _data((7,), num_steps=1)
    free, _ = _run(adafactor.Adafactor(), 100.0 * param, grads)
    bounded, _ = _run(adafactor.Adafactor(max_parameter_scale=1.0), 100.0 * param, grads)
    ratio = (bounded - 100.0 * param) / (free - 100.0 * param)
    np.testing.assert_allclose(ratio, 1.0 / _rms(100.0 * param), rtol=1e-3)


def test_state_has_the_axes_of_its_parameter_where_it_has_its_shape():
    optimizer = adafactor.Adafactor(beta1=0.9)
    params = {"small": jnp.ones((8, 4)), "large": jnp.ones((160, 130))}
    axes = {"small": ("embed", "mlp"), "large": ("embed", "mlp")}
    derived = optimizer.derive_logical_axes(optimizer.create(params), axes)
    assert derived.target == axes
    none = {"v_row": None, "v_col": None}
    assert derived.state.param_states == {
        "small": {**none, "v": ("embed", "mlp"), "m": ("embed", "mlp")},
        "large": {**none, "v": None, "m": ("embed", "mlp")},
    }


def test_state_dict_gives_back_the_state():
    optimizer = adafactor.Adafactor()
    param, grads = _data((160, 130), num_steps=1)
    updated, state = _run(optimizer, param, grads)
    params = {"layer": {"kernel": jnp.asarray(updated)}}
    saved = optimizers.Optimizer(optimizer, state, params).state_dict()
    fresh = optimizer.create(jax.tree.map(jnp.zeros_like, params)).restore_state(saved)
    for ours, expected in zip(jax.tree.leaves(fresh), jax.tree.leaves((state, params)), strict=True):
        np.testing.assert_array_equal(ours, expected)


def test_errors_name_the_parameter_and_the_mend():
    optimizer = adafactor.Adafactor()
    params = {"w": jnp.ones(3)}
    with pytest.raises(ValueError, match="learning_rate"):
        optimizer.apply_gradient(optimizer.hyper_params, params, optimizer.init_state(params), params)
    with pytest.raises(ValueError, match=r"parameter 'w' of shape \(2, 3, 4\)"):
        adafactor.Adafactor().init_state({"w": jnp.ones((2, 3, 4))})
    with pytest.raises(ValueError, match="'depth' of parameter 'w'"):
        adafactor.Adafactor(logical_factor_rules={"embed": "row"}).set_param_axes({"w": ("depth", "embed")})
    with pytest.raises(ValueError, match="no other axis may be NONE"):
        adafactor.Adafactor(logical_factor_rules={"a": "row", "b": "column", "c": "none"}).set_param_axes(
            {"w": ("a", "b", "c")}
        )
    with pytest.raises(ValueError, match="factor rule 'rows'"):
        adafactor.Adafactor(logical_factor_rules={"a": "rows"}).set_param_axes({"w": ("a",)})
    with pytest.raises(ValueError, match="factored=False"):
        adafactor.Adafactor(factored=False, factor_map=adafactor.HParamMap([]))
    with pytest.raises(KeyError, match="'w'"):
        adafactor.HParamMap([("kernel", 1)])["w"]
