"""How a stack of equal layers is computed: one behind the other or as a loop, and what is kept for the backward pass.

Parameters lie layer by layer ('encoder/layers_3/…') in any case. For the loop they are stacked within the compiled step,
where the compiler shares the copy with the cast to the computation's dtype. T5X's scalable_t5 keeps them stacked
('encoder/encoder/…', the layers along `param_scan_axis`); `stacked_checkpoints` reads and writes that.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from stepdistill_jax.engine.hardware.present_devices import GPU_PLATFORMS
from stepdistill_jax.engine.model.attention import fused

# Stacks of more layers are scanned unless a config says otherwise: compiling then costs the same for 6 layers and for 24,
# and the step is as fast (docs/speed.md).
LONGEST_UNROLLED_STACK = 4

_REMAT_POLICIES: dict[str, Callable[..., bool] | None] = {
    "minimal": jax.checkpoint_policies.save_from_both_policies(
        jax.checkpoint_policies.checkpoint_dots_with_no_batch_dims,
        jax.checkpoint_policies.save_only_these_names(fused.KEPT),
    ),
    "full": None,  # jax.checkpoint's default: nothing but the inputs
}


# Layers of all stacks that the engine unrolls on a GPU where the step fits so: compiling takes longer with each (docs/speed.md).
_MOST_UNROLLED_ON_GPUS = 48


@dataclasses.dataclass(frozen=True)
class LayerPlan:
    """How the stacks of a model are computed: two settings of its config."""

    scan_layers: bool
    remat_policy: str

    def __str__(self) -> str:
        """As 'layers in a loop, matrix products kept'."""
        kept = {"none": "all kept", "minimal": "matrix products kept", "full": "their inputs kept"}
        return f"layers {'in a loop' if self.scan_layers else 'unrolled'}, {kept[self.remat_policy]}"


def open_plans(config: Any, platform: str, *, splits_parameters: bool) -> tuple[LayerPlan, ...]:
    """The plans that a config leaves open on GPUs and TPUs, those that take less time first.

    Unrolled, the compiler moves and fuses across layers, nothing is stacked, and nothing is computed twice: on a GPU 22 % less time
    (docs/speed.md). A loop needs less memory. For a TPU 48 unrolled layers take too long to compile, and 12 GB.

    Args:
      platform: of the devices, as JAX names it. On a CPU all are as fast (docs/speed.md), so nothing is open.
      splits_parameters: over devices. Then layers stay in a loop, which gathers one at a time.

    Returns:
      nothing where the config names one of the two settings, or does not have them.
    """
    settings = [getattr(config, name, "absent") for name in ("scan_layers", "remat_policy")]
    if platform == "cpu" or settings != [None, None]:
        return ()
    names = ("num_encoder_layers", "num_decoder_layers", "num_layers")
    stacks = [getattr(config, name, 0) for name in names]
    if max(stacks) <= LONGEST_UNROLLED_STACK:
        return tuple(LayerPlan(False, policy) for policy in ("none", "minimal", "full"))
    loops = (LayerPlan(True, "minimal"), LayerPlan(True, "full"))
    if platform not in GPU_PLATFORMS or splits_parameters or sum(stacks) > _MOST_UNROLLED_ON_GPUS:
        return loops
    return (LayerPlan(False, "none"), *loops)


def check_remat_policy(name: str | None) -> None:
    """Checks the name of a remat policy, T5X's.

    Raises:
      ValueError: if there is no such policy.
    """
    if name not in (None, "none", *_REMAT_POLICIES):
        raise ValueError(
            f"remat_policy={name!r}; use 'none' (keeps all activations), 'minimal' or 'full' (keeps the least), or None "
            "for the engine's choice."
        )


def run_layers(
    stack: nn.Module,
    layer_cls: Callable[..., nn.Module],
    hidden: jax.Array,
    inputs: Sequence[Any],
    *,
    num_layers: int,
    deterministic: bool,
    cache_index: jax.Array | None = None,
    select: Callable[[int | jax.Array, Sequence[Any]], Sequence[Any]] | None = None,
) -> jax.Array:
    """`hidden` [batch, length, embed] after layers 'layers_0' … of `stack`, which all get the same further inputs.

    When training and encoding, layer n draws its dropout from the stack's key folded with n, so that scanned, unrolled
    and rematerialised stacks drop the same. With a cache, at initialisation and when intermediates are captured, the
    layers are plain submodules of `stack`.

    Args:
      stack: an Encoder or Decoder; its `config` says how to run.
      layer_cls: made from that config; called with (hidden, *inputs).
      inputs: arrays, or trees of them.
      cache_index: position of the decoded token; None without a cache.
      select: what a layer gets of `inputs`, by its number, which is an array where layers are scanned; None: all of it.
    """
    config = stack.config
    own = select or (lambda index, inputs: inputs)
    if stack.is_initializing() or cache_index is not None or stack.is_mutable_collection("intermediates"):
        position = {} if cache_index is None else {"cache_index": cache_index}
        for i in range(num_layers):
            layer = layer_cls(config, name=f"layers_{i}")
            hidden = layer(hidden, *own(i, inputs), deterministic=deterministic, **position)
        return hidden

    use_dropout = not deterministic and config.dropout_rate > 0.0
    dropout_rng = stack.make_rng("dropout") if use_dropout else None
    layer = layer_cls(config, parent=None)

    def apply_layer(hidden, params, index, inputs):
        rngs = {"dropout": jax.random.fold_in(dropout_rng, index)} if use_dropout else {}
        return layer.apply(
            {"params": params}, hidden, *own(index, inputs), deterministic=deterministic, rngs=rngs
        )

    scan = num_layers > LONGEST_UNROLLED_STACK if config.scan_layers is None else config.scan_layers
    remat_policy = config.remat_policy
    if remat_policy is None:
        # A loop has to store whatever its backward pass reads; out of a loop the compiler chooses for itself.
        remat_policy = "minimal" if scan else "none"
    if remat_policy != "none":
        # Within a loop XLA cannot merge the recomputation with the first computation anyway.
        apply_layer = jax.checkpoint(apply_layer, policy=_REMAT_POLICIES[remat_policy], prevent_cse=not scan)
    params = [stack.get_variable("params", f"layers_{i}") for i in range(num_layers)]
    if not scan:
        for i in range(num_layers):
            hidden = apply_layer(hidden, params[i], i, inputs)
        return hidden
    stacked = jax.tree.map(lambda *layers: jnp.stack(layers), *params)  # [layers, ...]
    hidden, _ = jax.lax.scan(
        lambda hidden, layer: (apply_layer(hidden, *layer, inputs), None),
        hidden,
        (stacked, jnp.arange(num_layers)),
    )
    return hidden
