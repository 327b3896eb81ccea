"""Initial parameters drawn by shape are those that Flax draws one by one."""

import jax
import numpy as np
import pytest
from flax import linen as nn
from tiny_t5 import tiny_config

from stepdistill_jax.engine.model import initializers, network

TOKENS = np.ones((2, 4), np.int32)


@pytest.fixture(params=["T5 v1.1", "umT5"])
def module(request):
    return network.Transformer(tiny_config(vocab_size=11, relpos_bias_in_every_layer=request.param == "umT5"))


def test_parameters_drawn_by_shape_are_those_that_flax_draws(module):
    def init(rng):
        return module.init(rng, TOKENS, TOKENS, TOKENS, enable_dropout=False)

    rng = jax.random.key(3)
    one_by_one = jax.jit(init)(rng)
    by_shape = jax.jit(lambda rng: initializers.drawn_by_shape(lambda: init(rng), rng))(rng)
    assert jax.tree.structure(one_by_one) == jax.tree.structure(by_shape)
    jax.tree.map(np.testing.assert_array_equal, one_by_one["params"], by_shape["params"])
    assert all(np.any(leaf != 0) for leaf in jax.tree.leaves(by_shape["params"]))


def test_two_drawn_parameters_of_one_module_are_refused():
    class Two(nn.Module):
        @nn.compact
        def __call__(self):
            self.param("first", initializers.unit_normal, (2,))
            self.param("second", initializers.unit_normal, (2,))

    rng = jax.random.key(0)
    with pytest.raises(ValueError, match="has 2 parameters"):
        initializers.drawn_by_shape(lambda: Two().init(rng), rng)
