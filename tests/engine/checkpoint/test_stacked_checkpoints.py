"""T5X's stacked layout of layers and ours hold the same model and the same optimizer state."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util
from stacking import stack_layers

from stepdistill_jax.engine.checkpoint import stacked_checkpoints
from stepdistill_jax.engine.optim import adafactor

NUM_LAYERS = 3
# Parameters of one layer with their logical axes; sizes on both sides of Adafactor's 128.
LAYER = {
    "mlp/wi_0/kernel": ((128, 256), ("embed", "mlp")),
    "mlp/wo/kernel": ((256, 128), ("mlp", "embed")),
    "attention/query/kernel": ((160, 128), ("embed", "joined_kv")),
    "attention/out/kernel": ((128, 128), ("joined_kv", "embed")),
    "pre_mlp_layer_norm/scale": ((128,), ("embed",)),
    "relpos_bias/rel_embedding": ((4, 32), ("heads", "relpos_buckets")),
}


def _random_layers(seed):
    rng = np.random.default_rng(seed)
    return {
        f"encoder/layers_{i}/{name}": jnp.asarray(rng.normal(size=shape), jnp.float32)
        for i in range(NUM_LAYERS)
        for name, (shape, _) in LAYER.items()
    } | {"token_embedder/embedding": jnp.asarray(rng.normal(size=(130, 128)), jnp.float32)}


def _axes(stacked):
    axes = {"token_embedder/embedding": ("vocab", "embed")}
    for name, (_, names) in LAYER.items():
        if stacked:
            axes[f"encoder/encoder/{name}"] = (names[0], "layers", *names[1:])
        else:
            axes |= {f"encoder/layers_{i}/{name}": names for i in range(NUM_LAYERS)}
    return axes


def _nested(flat):
    return traverse_util.unflatten_dict(flat, sep="/")


def _train(params, grads_of_steps, axes):
    """(parameters, Adafactor's moments) after some steps."""
    optimizer = adafactor.Adafactor(
        learning_rate=0.01, logical_factor_rules=adafactor.standard_logical_factor_rules(), beta1=0.9
    )
    optimizer.set_param_axes(_nested(axes))
    state = optimizer.init_state(params)
    step = jax.jit(lambda *args: optimizer.apply_gradient(optimizer.hyper_params, *args))
    for grads in grads_of_steps:
        params, state = step(params, state, grads)
    return params, state.param_states


def test_unstacking_undoes_stacking():
    params = _nested(_random_layers(0))
    stacked = stack_layers(params)
    assert stacked["encoder"]["encoder"]["mlp"]["wi_0"]["kernel"].shape == (128, NUM_LAYERS, 256)
    assert stacked_checkpoints.is_stacked(stacked)
    assert not stacked_checkpoints.is_stacked(params)
    jax.tree.map(np.testing.assert_array_equal, stacked_checkpoints.unstack_layers(stacked), params)


def test_adafactor_gives_stacked_and_single_layers_the_same_numbers():
    params, grads = _nested(_random_layers(0)), [_nested(_random_layers(seed)) for seed in (1, 2)]
    new_params, moments = _train(params, grads, _axes(stacked=False))
    stacked_params, stacked_moments = _train(
        stack_layers(params), [stack_layers(g) for g in grads], _axes(stacked=True)
    )
    apart = stacked_checkpoints.unstack_layers(
        {"target": stacked_params, "state": {"step": 2, "param_states": stacked_moments}}
    )

    def assert_close(first, second):
        np.testing.assert_allclose(first, second, rtol=1e-5, atol=1e-6)

    jax.tree.map(assert_close, apart["target"], new_params)
    jax.tree.map(assert_close, apart["state"]["param_states"], moments)
    assert apart["state"]["step"] == 2


class OnlyIndexing:
    """An array of a checkpoint that is read lazily: it has a shape and can be sliced, nothing else."""

    def __init__(self, shape, taken=()):
        self.shape, self.taken = shape, taken

    def __getitem__(self, index):
        return OnlyIndexing(None, index)


def test_lazy_arrays_are_only_sliced():
    tree = {"decoder": {"decoder": {"mlp": {"wo": {"kernel": OnlyIndexing((256, 2, 128))}}}}}
    apart = stacked_checkpoints.unstack_layers(tree)
    assert apart["decoder"]["layers_1"]["mlp"]["wo"]["kernel"].taken == (slice(None), 1)


def test_a_parameter_without_layers_is_named():
    tree = {"encoder": {"encoder": {"norm": {"scale": np.ones(128)}}}}
    with pytest.raises(ValueError, match=r"'encoder/encoder/norm/scale' of shape \(128,\)"):
        stacked_checkpoints.unstack_layers(tree)
