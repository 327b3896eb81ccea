"""Adafactor (Shazeer and Stern 2018, arXiv:1804.04235) with T5X's arguments, numbers and state (`t5x.adafactor`).

Each parameter's state is a dict of 'v_row', 'v_col' (factored second moment), 'v' (unfactored) and 'm' (momentum); those
that a parameter does not use are zeros of shape [1], as in T5X's checkpoints.
"""

import enum
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct, traverse_util

from stepdistill_jax.engine.optim.optimizers import OptimizerDef, OptimizerState, is_logical_axes

PyTree = Any


class FactorDim(enum.Enum):
    """What a dimension of a parameter is to its factored second moment."""

    NONE = None  # kept whole
    BATCH = 1  # separate parameters stacked up: nothing is averaged over it
    ROW = 2
    COLUMN = 3


class HeuristicRule(enum.Enum):
    """The type of HEURISTIC_RULE."""

    token = 1


# Factors over the two largest dimensions, if both are large enough.
HEURISTIC_RULE = HeuristicRule.token
FactorRule = HeuristicRule | tuple[FactorDim, ...] | None
_FACTOR_NAMES = {
    "row": FactorDim.ROW,
    "col": FactorDim.COLUMN,
    "column": FactorDim.COLUMN,
    "batch": FactorDim.BATCH,
    "none": FactorDim.NONE,
    "unfactorized": FactorDim.NONE,
}


def standard_logical_factor_rules() -> dict[str, FactorDim]:
    """T5X's table from a parameter's logical axis to its part in the factoring."""
    columns = ("vocab", "mlp", "heads", "kv", "joined_kv", "q_wi_fused", "o_wo_fused", "multiquery_heads")
    return {
        "embed": FactorDim.ROW,
        **dict.fromkeys((*columns, "kv_fused", "mlp_activations"), FactorDim.COLUMN),
        **dict.fromkeys(("relpos_buckets", "layer_norm_scale"), FactorDim.NONE),
        **dict.fromkeys(("layers", "stack"), FactorDim.BATCH),
    }


def factor_name_to_factordim(name: str | FactorDim) -> FactorDim:
    """The FactorDim that gin names 'row', 'column', 'batch' or 'none'."""
    if not isinstance(name, str):
        return name
    if name.lower() not in _FACTOR_NAMES:
        raise ValueError(f"factor rule {name!r}; use one of {', '.join(_FACTOR_NAMES)}.")
    return _FACTOR_NAMES[name.lower()]


class HParamMap:
    """Values by parameter path: the first rule whose regular expression is found in 'decoder/layers_0/…' wins."""

    def __init__(self, rules: Sequence[tuple[str, Any]]) -> None:
        self._rules = [(re.compile(pattern), value) for pattern, value in rules]

    def __getitem__(self, path: str) -> Any:
        for pattern, value in self._rules:
            if pattern.search(path):
                return value
        raise KeyError(f"no rule of HParamMap matches parameter '{path}'; end the rules with ('.*', value).")

    def __call__(self, params: PyTree) -> PyTree:
        """The tree of parameters with each one's value in its place."""
        flat = traverse_util.flatten_dict(dict(params), sep="/")
        return traverse_util.unflatten_dict({path: self[path] for path in flat}, sep="/")


@struct.dataclass
class _AdafactorHyperParams:
    learning_rate: Any
    factored: bool
    multiply_by_parameter_scale: Any
    beta1: Any
    decay_rate: Any
    step_offset: Any
    clipping_threshold: Any
    weight_decay_rate: Any
    min_dim_size_to_factor: int
    epsilon1: Any
    epsilon2: Any
    factor_map: Any = None
    logical_factor_rules: Any = None
    weight_decay_rate_lr_exponent: Any = None
    global_norm_clip_threshold: Any = None
    max_parameter_scale: Any = None
    skip_nan_updates: Any = False


class Adafactor(OptimizerDef):
    """Adafactor as an `OptimizerDef`."""

    def __init__(
        self,
        learning_rate: float | None = None,
        factored: bool = True,
        multiply_by_parameter_scale: bool | HParamMap = True,
        beta1: float | None = None,
        decay_rate: float = 0.8,
        step_offset: int = 0,
        clipping_threshold: float | None = 1.0,
        weight_decay_rate: float | None = None,
        min_dim_size_to_factor: int = 128,
        epsilon1: float = 1e-30,
        epsilon2: float = 1e-3,
        dtype_momentum: Any = jnp.float32,
        factor_map: HParamMap | None = None,
        logical_factor_rules: Mapping[str, FactorDim | str] | None = None,
        weight_decay_rate_lr_exponent: float | None = None,
        global_norm_clip_threshold: float | None = None,
        max_parameter_scale: float | None = None,
        skip_nan_updates: bool | None = False,
    ) -> None:
        """Takes T5X's arguments.

        Args:
          learning_rate: overridden by the trainer's.
          factored: keeps row and column means of the second moment, for parameters large enough.
          multiply_by_parameter_scale: steps are relative to the parameter's RMS; or an HParamMap that says for which.
          beta1: momentum, none if None.
          decay_rate: the second moment decays by 1 - (step + 1)^-decay_rate.
          step_offset: taken off the step in that formula, to start it anew when fine-tuning.
          clipping_threshold: largest RMS of a parameter's update before the learning rate.
          weight_decay_rate: share of each parameter taken off at each step (not times the learning rate).
          min_dim_size_to_factor: dimensions below this are not factored.
          epsilon1: added to squared gradients.
          epsilon2: smallest parameter scale.
          dtype_momentum: of 'm'.
          factor_map: rules of factoring by parameter path.
          logical_factor_rules: rules by logical axis; they replace `factor_map` once the axes are known.
          weight_decay_rate_lr_exponent: the decay rate is learning_rate ** this (times weight_decay_rate, if given).
          global_norm_clip_threshold: largest norm of the whole gradient.
          max_parameter_scale: largest parameter scale.
          skip_nan_updates: keeps the old value wherever the new one is NaN.
        """
        if not factored and factor_map is not None:
            raise ValueError("Adafactor got factored=False and a factor_map; leave one of them out.")
        if not isinstance(multiply_by_parameter_scale, bool | HParamMap):
            raise TypeError(
                f"Adafactor.multiply_by_parameter_scale={multiply_by_parameter_scale!r}; use a bool or an HParamMap."
            )
        if not isinstance(factor_map, HParamMap | None):
            raise TypeError(f"Adafactor.factor_map={factor_map!r}; use an HParamMap.")
        self.dtype_momentum = jax.dtypes.canonicalize_dtype(dtype_momentum)
        super().__init__(
            _AdafactorHyperParams(
                learning_rate=learning_rate,
                factored=factored,
                multiply_by_parameter_scale=multiply_by_parameter_scale,
                beta1=beta1,
                decay_rate=decay_rate,
                step_offset=step_offset,
                clipping_threshold=clipping_threshold,
                weight_decay_rate=weight_decay_rate,
                min_dim_size_to_factor=min_dim_size_to_factor,
                epsilon1=epsilon1,
                epsilon2=epsilon2,
                factor_map=factor_map,
                logical_factor_rules=logical_factor_rules,
                weight_decay_rate_lr_exponent=weight_decay_rate_lr_exponent,
                global_norm_clip_threshold=global_norm_clip_threshold,
                max_parameter_scale=max_parameter_scale,
                skip_nan_updates=skip_nan_updates,
            )
        )

    def set_param_axes(self, param_logical_axes: PyTree) -> None:
        """Derives the factoring of each parameter from its logical axes, if `logical_factor_rules` were given."""
        rules = self.hyper_params.logical_factor_rules
        if rules is None:
            return
        flat = _flatten(jax.tree.map(tuple, param_logical_axes, is_leaf=is_logical_axes))
        factor_map = {path: _rule_of_axes(axes, rules, path) for path, axes in flat.items()}
        self.hyper_params = self.hyper_params.replace(factor_map=factor_map)

    def init_state(self, params: PyTree) -> OptimizerState:
        states = {path: self._init_param_state(param, path) for path, param in _flatten(params).items()}
        return OptimizerState(jnp.zeros((), jnp.int32), traverse_util.unflatten_dict(states, sep="/"))

    def apply_gradient(
        self, hyper_params: _AdafactorHyperParams, params: PyTree, state: OptimizerState, grads: PyTree
    ) -> tuple[PyTree, OptimizerState]:
        """(new parameters, new state) after one step at `hyper_params.learning_rate`."""
        if hyper_params.learning_rate is None:
            raise ValueError(
                "Adafactor has no learning rate; give the trainer a learning_rate_fn, or bind "
                "adafactor.Adafactor.learning_rate."
            )
        flat_params, flat_grads = _flatten(params), _flatten(grads)
        flat_states = _flatten_states(state.param_states, flat_params)
        flat_grads = {path: grad.astype(jnp.float32) for path, grad in flat_grads.items()}
        if hyper_params.global_norm_clip_threshold:
            flat_grads = _clip_by_global_norm(flat_grads, hyper_params.global_norm_clip_threshold)
        new_params, new_states = {}, {}
        for path, param in flat_params.items():
            new_params[path], new_states[path] = self._apply_param_gradient(
                state.step, hyper_params, param, flat_states[path], flat_grads[path], path
            )
        unflatten = traverse_util.unflatten_dict
        return unflatten(new_params, sep="/"), OptimizerState(state.step + 1, unflatten(new_states, sep="/"))

    def state_logical_axes(self, state: OptimizerState, param_logical_axes: PyTree) -> OptimizerState:
        """'v' and 'm' of a parameter's shape have its axes; the small rest None."""
        axes_of_path = _flatten(param_logical_axes)
        axes = {
            path: {
                name: axes_of_path[path]
                if moment.ndim and moment.shape != (1,) and name in ("v", "m")
                else None
                for name, moment in moments.items()
            }
            for path, moments in _flatten_states(state.param_states, axes_of_path).items()
        }
        return OptimizerState(step=None, param_states=traverse_util.unflatten_dict(axes, sep="/"))

    def _averaged_and_factored_dims(
        self, shape: Sequence[int], path: str
    ) -> tuple[tuple[int, ...], tuple[tuple[int, ...], tuple[int, ...]] | None]:
        """(dimensions that scales and clipping average over, (row dimensions, column dimensions) or None)."""
        every_dim = tuple(range(len(shape)))
        hyper_params = self.hyper_params
        if not hyper_params.factored:
            return every_dim, None
        rule: FactorRule = hyper_params.factor_map[path] if hyper_params.factor_map else HEURISTIC_RULE
        if rule is None:
            return every_dim, None
        if rule is HEURISTIC_RULE:
            if len(shape) > 2:
                raise ValueError(
                    f"parameter '{path}' of shape {tuple(shape)} has more than 2 dimensions; give Adafactor a factor_map "
                    "or logical_factor_rules that cover it."
                )
            return every_dim, self._largest_dims(shape)
        if len(rule) != len(shape):
            raise ValueError(f"factor rule {rule} does not fit parameter '{path}' of shape {tuple(shape)}.")
        batch_dims = [dim for dim, part in enumerate(rule) if part is FactorDim.BATCH]
        if len(shape) <= 2 and not batch_dims:
            # T5X's choice: rules only say how to factor what the heuristic cannot.
            return every_dim, self._largest_dims(shape)
        rows = tuple(dim for dim, part in enumerate(rule) if part is FactorDim.ROW)
        columns = tuple(dim for dim, part in enumerate(rule) if part is FactorDim.COLUMN)
        averaged = tuple(dim for dim in every_dim if dim not in batch_dims)
        return averaged, (rows, columns) if rows or columns else None

    def _largest_dims(self, shape: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
        if len(shape) < 2:
            return None
        by_size = np.argsort(shape)
        if shape[by_size[-2]] < self.hyper_params.min_dim_size_to_factor:
            return None
        return (int(by_size[-2]),), (int(by_size[-1]),)

    def _init_param_state(self, param: jax.Array, path: str) -> dict[str, jax.Array]:
        state = {name: jnp.zeros((1,), jnp.float32) for name in ("v_row", "v_col", "v", "m")}
        _, factored = self._averaged_and_factored_dims(param.shape, path)
        if factored is None:
            state["v"] = jnp.zeros(param.shape, jnp.float32)
        else:
            rows, columns = factored
            state["v_row"] = jnp.zeros(np.delete(param.shape, columns), jnp.float32)
            state["v_col"] = jnp.zeros(np.delete(param.shape, rows), jnp.float32)
        if self.hyper_params.beta1 is not None:
            state["m"] = jnp.zeros(param.shape, self.dtype_momentum)
        return state

    def _apply_param_gradient(
        self,
        step: jax.Array,
        hyper_params: _AdafactorHyperParams,
        param: jax.Array,
        state: Mapping[str, jax.Array],
        grad: jax.Array,
        path: str,
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        averaged, factored = self._averaged_and_factored_dims(param.shape, path)
        age = jnp.asarray(step - hyper_params.step_offset, jnp.float32) + 1.0
        decay = 1.0 - age ** (-hyper_params.decay_rate)
        update, moments = _normalised_update(grad, state, decay, factored, hyper_params.epsilon1)
        if hyper_params.clipping_threshold is not None:
            update = update / jnp.maximum(1.0, _rms(update, averaged) / hyper_params.clipping_threshold)
        update = update * _step_size(hyper_params, param, averaged, path)

        new_state = {name: jnp.zeros((1,), jnp.float32) for name in ("v_row", "v_col", "v", "m")} | moments
        if hyper_params.beta1 is not None:
            update = hyper_params.beta1 * state["m"] + (1.0 - hyper_params.beta1) * update
            new_state["m"] = update.astype(self.dtype_momentum)
        weight_decay_rate = _weight_decay_rate(hyper_params)
        kept = param if weight_decay_rate is None else (1.0 - weight_decay_rate) * param
        new_param = kept - update
        if hyper_params.skip_nan_updates:
            new_param = jnp.where(jnp.isnan(new_param), param, new_param)
            new_state = {
                name: jnp.where(jnp.isnan(moment), state[name], moment) for name, moment in new_state.items()
            }
        return new_param.astype(param.dtype), new_state


def _flatten(tree: PyTree) -> dict[str, Any]:
    """{'decoder/layers_0/mlp/wi/kernel': leaf}; logical axes count as leaves, being no dicts."""
    return traverse_util.flatten_dict(dict(tree), sep="/")


def _flatten_states(param_states: PyTree, paths: Mapping[str, Any]) -> dict[str, Mapping[str, jax.Array]]:
    flat = _flatten(param_states)
    return {path: {name: flat[f"{path}/{name}"] for name in ("v_row", "v_col", "v", "m")} for path in paths}


def _rule_of_axes(axes: tuple[str, ...], rules: Mapping[str, Any], path: str) -> tuple[FactorDim, ...]:
    unknown = [axis for axis in axes if axis not in rules]
    if unknown:
        raise ValueError(
            f"logical axis '{unknown[0]}' of parameter '{path}' has no Adafactor rule; add it to logical_factor_rules."
        )
    rule = tuple(factor_name_to_factordim(rules[axis]) for axis in axes)
    has_both = FactorDim.ROW in rule and FactorDim.COLUMN in rule
    if has_both and FactorDim.NONE in rule:
        raise ValueError(
            f"logical_factor_rules make {tuple(part.name for part in rule)} of the axes {axes} of parameter '{path}'; with "
            "rows and columns, no other axis may be NONE."
        )
    if has_both:
        return rule
    return tuple(part if part is FactorDim.BATCH else FactorDim.NONE for part in rule)


def _clip_by_global_norm(grads: Mapping[str, jax.Array], threshold: float) -> dict[str, jax.Array]:
    norm = jnp.sqrt(sum(jnp.sum(jnp.square(grad)) for grad in grads.values()))
    scale = jnp.minimum(1.0, threshold / norm)
    return {path: grad * scale for path, grad in grads.items()}


def _rms(values: jax.Array, dims: tuple[int, ...]) -> jax.Array:
    return jnp.sqrt(jnp.mean(jnp.square(values), axis=dims, keepdims=True))


def _normalised_update(
    grad: jax.Array,
    state: Mapping[str, jax.Array],
    decay: jax.Array,
    factored: tuple[tuple[int, ...], tuple[int, ...]] | None,
    epsilon1: float,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """(gradient / root of its second moment, new moments). Factored, the moment is row · column / mean(row)."""
    squared = jnp.square(grad) + epsilon1
    if factored is None:
        moment = decay * state["v"] + (1.0 - decay) * squared
        return grad * moment**-0.5, {"v": moment}
    row_dims, column_dims = factored
    row = decay * state["v_row"] + (1.0 - decay) * jnp.mean(squared, axis=column_dims)
    column = decay * state["v_col"] + (1.0 - decay) * jnp.mean(squared, axis=row_dims)
    wide_row = jnp.expand_dims(row, column_dims)
    wide_column = jnp.expand_dims(column, row_dims)
    row_mean = jnp.mean(wide_row, axis=row_dims, keepdims=True)
    return grad * (wide_row / row_mean) ** -0.5 * wide_column**-0.5, {"v_row": row, "v_col": column}


def _step_size(
    hyper_params: _AdafactorHyperParams, param: jax.Array, averaged: tuple[int, ...], path: str
) -> jax.Array | float:
    is_relative = hyper_params.multiply_by_parameter_scale
    if isinstance(is_relative, HParamMap):
        is_relative = is_relative[path]
    if not is_relative:
        return hyper_params.learning_rate
    scale = jnp.maximum(_rms(param, averaged), hyper_params.epsilon2)
    if hyper_params.max_parameter_scale is not None:
        scale = jnp.minimum(scale, hyper_params.max_parameter_scale)
    return hyper_params.learning_rate * scale


def _weight_decay_rate(hyper_params: _AdafactorHyperParams) -> Any:
    exponent = hyper_params.weight_decay_rate_lr_exponent
    if not exponent:
        return hyper_params.weight_decay_rate
    return (hyper_params.weight_decay_rate or 1.0) * hyper_params.learning_rate**exponent
