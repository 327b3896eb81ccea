import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stepdistill_jax.engine.optim.schedules import create_learning_rate_scheduler

STEPS = [0, 1, 7, 10, 11, 40, 99, 100, 101, 250]
W = 10
# factor -> its formula with base rate 0.5, w = 10, decay_factor 0.25, 40 steps a decay, 100 a cycle.
CLOSED_FORMS = {
    "constant": lambda s: 0.5,
    "linear_warmup": lambda s: min(1.0, s / W),
    "linear_decay": lambda s: 0.5 * min(s / W, 1 + 0.25 * (W - s)),
    "rsqrt_decay": lambda s: max(s, W) ** -0.5,
    "rsqrt_normalized_decay": lambda s: (W / max(s, W)) ** 0.5,
    "decay_every": lambda s: 0.25 ** (s // 40),
    "cosine_decay": lambda s: 0.5 * (1 + np.cos(np.pi * (max(0, s - W) / 100 % 1))),
    "constant * linear_warmup * rsqrt_decay": lambda s: 0.5 * min(1.0, s / W) * max(s, W) ** -0.5,
}


def rates(factors, steps=STEPS, **settings):
    schedule = jax.jit(create_learning_rate_scheduler(factors, **settings))
    return [float(schedule(jnp.int32(step))) for step in steps]


@pytest.mark.parametrize("factors", CLOSED_FORMS)
def test_schedules_follow_their_closed_forms(factors):
    settings = {"base_learning_rate": 0.5, "warmup_steps": W, "decay_factor": 0.25, "steps_per_decay": 40}
    expected = [max(CLOSED_FORMS[factors](step), 1e-8) for step in STEPS]
    np.testing.assert_allclose(
        rates(factors, steps_per_cycle=100, **settings), expected, rtol=1e-5, atol=1e-8
    )


def test_steps_count_from_the_offset():
    offset = rates("linear_warmup", [0, 1000, 1005, 1010, 1500], warmup_steps=W, step_offset=1000)
    np.testing.assert_allclose(offset, [1e-8, 1e-8, 0.5, 1.0, 1.0], rtol=1e-6)


def test_the_rate_never_falls_below_its_minimum():
    assert rates("constant", [0], base_learning_rate=0.0, min_learning_rate=1e-3) == [pytest.approx(1e-3)]


@pytest.mark.parametrize("factors", CLOSED_FORMS)
def test_without_warm_up_every_rate_is_finite_from_the_first_step(factors):
    values = rates(factors, [0, 1, 5], base_learning_rate=0.5, warmup_steps=0)
    assert np.isfinite(values).all()
    assert values[0] > 1e-8


def test_without_warm_up_the_first_step_has_the_full_rate():
    for factors in ("constant * linear_warmup", "constant * rsqrt_normalized_decay", "linear_decay"):
        assert rates(factors, [0], base_learning_rate=0.3, warmup_steps=0) == [pytest.approx(0.3)]


def test_an_unknown_factor_is_named_with_those_there_are():
    with pytest.raises(ValueError, match=r"no factor 'cosine'; there are .*cosine_decay"):
        create_learning_rate_scheduler("constant * cosine")


def test_a_rate_is_a_float32_scalar():
    rate = create_learning_rate_scheduler()(jnp.int32(3))
    assert rate.shape == ()
    assert rate.dtype == jnp.float32
