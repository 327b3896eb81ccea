"""Optimizer definitions as T5X's trainer takes them (`t5x.optimizers`): pure functions of parameters and state.

Gin's `optimizers.adamw(...)` and the like are Optax's, wrapped. A learning rate given there, a number or an Optax schedule,
is the one used, as in T5X. One left out (`optimizers.adamw(weight_decay=0.01)`, which T5X refuses) is the trainer's.
"""

import abc
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import serialization, struct, traverse_util

PyTree = Any


@struct.dataclass
class OptimizerState:
    """`step` counts applied gradients (int32 scalar); `param_states` is the optimizer's own tree."""

    step: Any
    param_states: Any


class OptimizerDef(abc.ABC):
    """An optimizer without state: hyper-parameters, and functions over trees of parameters."""

    def __init__(self, hyper_params: Any) -> None:
        self.hyper_params = hyper_params

    @abc.abstractmethod
    def init_state(self, params: PyTree) -> OptimizerState:
        """The state before the first step."""

    @abc.abstractmethod
    def apply_gradient(
        self, hyper_params: Any, params: PyTree, state: OptimizerState, grads: PyTree
    ) -> tuple[PyTree, OptimizerState]:
        """(new parameters, new state) after one step."""

    def update_hyper_params(self, **overrides: Any) -> Any:
        """The hyper-parameters with `overrides`, such as `learning_rate=...`; `hyper_params=...` replaces them all."""
        hyper_params = overrides.pop("hyper_params", self.hyper_params)
        return hyper_params.replace(**overrides) if overrides else hyper_params

    def set_param_axes(self, param_logical_axes: PyTree) -> None:
        """Tells the optimizer the logical axes of each parameter, before `init_state`; most need none."""
        del param_logical_axes

    def state_logical_axes(self, state: OptimizerState, param_logical_axes: PyTree) -> OptimizerState:
        """A state whose leaves are logical axes, or None where a leaf is kept whole on every device (here all)."""
        del param_logical_axes
        return jax.tree.map(lambda leaf: None, state)

    def derive_logical_axes(self, optimizer: "Optimizer", param_logical_axes: PyTree) -> "Optimizer":
        """An `Optimizer` like the given one whose leaves are logical axes or None."""
        state = self.state_logical_axes(optimizer.state, param_logical_axes)
        return optimizer.replace(state=state, target=param_logical_axes)

    def create(self, target: PyTree) -> "Optimizer":
        return Optimizer(self, self.init_state(target), target)

    def state_dict(self, target: PyTree, state: OptimizerState) -> dict[str, Any]:
        """Nested dicts of parameters ('target') and state ('state'), without the empty ones that Optax makes."""
        return {
            "target": serialization.to_state_dict(target),
            "state": _without_empty(serialization.to_state_dict(state)),
        }

    def restore_state(
        self, target: PyTree, state: OptimizerState, state_dict: Mapping[str, Any]
    ) -> tuple[PyTree, OptimizerState]:
        """(parameters, state) from what `state_dict` gave, in the structure of the given ones."""
        flat = traverse_util.flatten_dict(dict(state_dict["state"]), sep="/")
        wanted = traverse_util.flatten_dict(
            serialization.to_state_dict(state), keep_empty_nodes=True, sep="/"
        )
        for path, leaf in wanted.items():
            if path in flat:
                continue
            if leaf is not traverse_util.empty_node:
                raise ValueError(
                    f"optimizer state has no '{path}'; it was written by another optimizer than "
                    f"{type(self).__name__}: restore parameters only, or use that one."
                )
            flat[path] = leaf
        restored = serialization.from_state_dict(state, traverse_util.unflatten_dict(flat, sep="/"))
        return serialization.from_state_dict(target, state_dict["target"]), restored


OptimizerDefType = OptimizerDef  # T5X's name in the signatures of models


class Optimizer(struct.PyTreeNode):
    """Parameters (`target`) and optimizer state together, as T5X keeps them."""

    optimizer_def: OptimizerDef = struct.field(pytree_node=False)
    state: OptimizerState
    target: Any

    def apply_gradient(self, grads: PyTree, **hyper_param_overrides: Any) -> "Optimizer":
        hyper_params = self.optimizer_def.update_hyper_params(**hyper_param_overrides)
        target, state = self.optimizer_def.apply_gradient(hyper_params, self.target, self.state, grads)
        return self.replace(target=target, state=state)

    def state_dict(self) -> dict[str, Any]:
        return self.optimizer_def.state_dict(self.target, self.state)

    def restore_state(self, state_dict: Mapping[str, Any]) -> "Optimizer":
        target, state = self.optimizer_def.restore_state(self.target, self.state, state_dict)
        return self.replace(target=target, state=state)


def is_logical_axes(value: Any) -> bool:
    """True for the logical axes of one array: a PartitionSpec or a tuple of names, or None."""
    return (
        value is None
        or isinstance(value, jax.sharding.PartitionSpec)
        or (isinstance(value, tuple) and all(name is None or isinstance(name, str) for name in value))
    )


def _without_empty(tree: Mapping[str, Any]) -> dict[str, Any]:
    return traverse_util.unflatten_dict(traverse_util.flatten_dict(tree, sep="/"), sep="/")


@struct.dataclass
class _OptaxWrapperHyperParams:
    """The trainer's learning rate; an Optax optimizer that has its own does not look at it."""

    learning_rate: Any = None


class OptaxWrapper(OptimizerDef):
    """An Optax optimizer as an `OptimizerDef`.

    Attributes:
      optax_optimizer: a gradient transformation with its own learning rate, or a function that makes one from a
        learning rate: then the trainer's is used.
    """

    def __init__(
        self, optax_optimizer: optax.GradientTransformation | Callable[..., optax.GradientTransformation]
    ) -> None:
        self.optax_optimizer = optax_optimizer
        self.uses_trainer_learning_rate = not isinstance(optax_optimizer, optax.GradientTransformation)
        super().__init__(_OptaxWrapperHyperParams())

    def _transformation(self, learning_rate: Any) -> optax.GradientTransformation:
        # Optax transformations are pure and their state does not hold a constant learning rate, so one made anew at
        # each step with that step's rate goes on with the same state.
        if self.uses_trainer_learning_rate:
            return self.optax_optimizer(learning_rate=learning_rate)
        return self.optax_optimizer

    def init_state(self, params: PyTree) -> OptimizerState:
        return OptimizerState(jnp.zeros((), jnp.int32), self._transformation(0.0).init(params))

    def apply_gradient(
        self, hyper_params: Any, params: PyTree, state: OptimizerState, grads: PyTree
    ) -> tuple[PyTree, OptimizerState]:
        if self.uses_trainer_learning_rate and hyper_params.learning_rate is None:
            raise ValueError(
                "the optimizer has no learning rate; bind it (optimizers.adamw.learning_rate = 1e-4) or give the "
                "trainer a learning_rate_fn."
            )
        transformation = self._transformation(hyper_params.learning_rate)
        updates, param_states = transformation.update(grads, state.param_states, params)
        return optax.apply_updates(params, updates), OptimizerState(state.step + 1, param_states)

    def state_logical_axes(self, state: OptimizerState, param_logical_axes: PyTree) -> OptimizerState:
        """Parts of the Optax state that mirror the parameters get their axes; counters and the like None."""
        axes = optax.tree_utils.tree_map_params(
            self._transformation(0.0),
            # optax.masked leaves a marker in place of the parameters that it does not touch.
            lambda leaf, axes: leaf if isinstance(leaf, optax.MaskedNode) else axes,
            state.param_states,
            jax.tree.map(lambda axes: _Axes(axes), param_logical_axes, is_leaf=is_logical_axes),
            transform_non_params=lambda leaf: _Axes(None),
            is_leaf=lambda leaf: isinstance(leaf, optax.MaskedNode),
        )
        axes = jax.tree.map(
            lambda leaf: leaf.axes if isinstance(leaf, _Axes) else leaf,
            axes,
            is_leaf=lambda leaf: isinstance(leaf, _Axes),
        )
        return OptimizerState(step=None, param_states=axes)


class _Axes:
    """Logical axes as one leaf of a tree, whatever type they have."""

    def __init__(self, axes: Any) -> None:
        self.axes = axes


class MultiOptimizer(OptimizerDef):
    """Different optimizers for different parameters; those that no traversal picks stay as they are. T5X's name.

    The state of an optimizer that keeps one entry a parameter (Adafactor) lies at the parameters' paths, as T5X has it; that
    of any other, such as Optax's, under 'optimizer_<n>'.
    """

    def __init__(
        self, traversals_and_optimizers: Sequence[tuple[traverse_util.Traversal, OptimizerDef]]
    ) -> None:
        """Takes pairs of a `flax.traverse_util` traversal, such as `ModelParamTraversal`, and an optimizer."""
        self.traversals = tuple(traversal for traversal, _ in traversals_and_optimizers)
        self.sub_optimizers = tuple(optimizer for _, optimizer in traversals_and_optimizers)
        super().__init__([optimizer.hyper_params for optimizer in self.sub_optimizers])

    def _paths(self, params: PyTree) -> list[list[str]]:
        """The parameters of each optimizer.

        Raises:
          ValueError: if two of them pick the same parameter.
        """
        flat = traverse_util.flatten_dict(params, sep="/")
        tree = traverse_util.unflatten_dict({path: path for path in flat}, sep="/")
        paths = [list(traversal.iterate(tree)) for traversal in self.traversals]
        every = [path for of_one in paths for path in of_one]
        twice = sorted({path for path in every if every.count(path) > 1})
        if twice:
            raise ValueError(
                f"Multiple optimizers match the same leaves: {', '.join(twice[:5])}{', …' if twice[5:] else ''}; let each "
                "traversal of MultiOptimizer pick other parameters."
            )
        return paths

    def _parts(self, params: PyTree, param_states: PyTree) -> list[tuple[list[str], PyTree]]:
        """(parameter paths, own state) of each optimizer."""
        flat = traverse_util.flatten_dict(param_states, sep="/", keep_empty_nodes=True)
        parts = []
        for index, paths in enumerate(self._paths(params)):
            name = f"optimizer_{index}"
            of_these = {f"{path}/" for path in paths}
            own = {key: leaf for key, leaf in flat.items() if f"{key.rpartition('/')[0]}/" in of_these}
            parts.append(
                (
                    paths,
                    param_states[name]
                    if name in param_states
                    else traverse_util.unflatten_dict(own, sep="/"),
                )
            )
        return parts

    def init_state(self, params: PyTree) -> OptimizerState:
        states = [
            optimizer.init_state(_picked(params, paths)).param_states
            for optimizer, paths in zip(self.sub_optimizers, self._paths(params), strict=True)
        ]
        return OptimizerState(jnp.zeros((), jnp.int32), _merged(states, self._paths(params)))

    def apply_gradient(
        self, hyper_params: Any, params: PyTree, state: OptimizerState, grads: PyTree
    ) -> tuple[PyTree, OptimizerState]:
        flat = traverse_util.flatten_dict(params, sep="/")
        states, parts = [], self._parts(params, state.param_states)
        for optimizer, own, (paths, own_state) in zip(self.sub_optimizers, hyper_params, parts, strict=True):
            new_params, new_state = optimizer.apply_gradient(
                own, _picked(params, paths), OptimizerState(state.step, own_state), _picked(grads, paths)
            )
            flat |= traverse_util.flatten_dict(new_params, sep="/")
            states.append(new_state.param_states)
        new_states = _merged(states, [paths for paths, _ in parts])
        return traverse_util.unflatten_dict(flat, sep="/"), OptimizerState(state.step + 1, new_states)

    def update_hyper_params(self, **overrides: Any) -> Any:
        hyper_params = overrides.pop("hyper_params", self.hyper_params)
        return [own.replace(**overrides) for own in hyper_params] if overrides else hyper_params

    def set_param_axes(self, param_logical_axes: PyTree) -> None:
        for optimizer, paths in zip(self.sub_optimizers, self._paths(param_logical_axes), strict=True):
            optimizer.set_param_axes(_picked(param_logical_axes, paths))

    def state_logical_axes(self, state: OptimizerState, param_logical_axes: PyTree) -> OptimizerState:
        parts = self._parts(param_logical_axes, state.param_states)
        axes = [
            optimizer.state_logical_axes(
                OptimizerState(state.step, own_state), _picked(param_logical_axes, paths)
            ).param_states
            for optimizer, (paths, own_state) in zip(self.sub_optimizers, parts, strict=True)
        ]
        return OptimizerState(None, _merged(axes, [paths for paths, _ in parts]))


def _picked(tree: PyTree, paths: Sequence[str]) -> PyTree:
    flat = traverse_util.flatten_dict(tree, sep="/")
    return traverse_util.unflatten_dict({path: flat[path] for path in paths}, sep="/")


def _merged(states: Sequence[PyTree], paths: Sequence[Sequence[str]]) -> dict[str, Any]:
    """One tree of the states of several optimizers; see `MultiOptimizer`."""
    flat: dict[str, Any] = {}
    others: dict[str, Any] = {}
    for index, (state, own_paths) in enumerate(zip(states, paths, strict=True)):
        entries = traverse_util.flatten_dict(state, sep="/") if isinstance(state, dict) else {}
        if entries and {key.rpartition("/")[0] for key in entries} <= set(own_paths):
            flat |= entries
        else:
            others[f"optimizer_{index}"] = state
    return {**traverse_util.unflatten_dict(flat, sep="/"), **others}


def wrap_optax_optimizer(optax_optimizer: Callable[..., optax.GradientTransformation]) -> Callable:
    """The same constructor, giving an `OptimizerDef`; its `learning_rate` may be left to the trainer."""
    parameters = inspect.signature(optax_optimizer).parameters

    @functools.wraps(optax_optimizer)
    def wrapped(*args: Any, **kwargs: Any) -> OptimizerDef:
        given = set(list(parameters)[: len(args)]) | set(kwargs)
        if "learning_rate" in parameters and "learning_rate" not in given:
            return OptaxWrapper(functools.partial(optax_optimizer, *args, **kwargs))
        return OptaxWrapper(optax_optimizer(*args, **kwargs))

    return wrapped


def _chain(transformations: Sequence[optax.GradientTransformation]) -> optax.GradientTransformation:
    """`optax.chain` of a list, which gin can write."""
    return optax.chain(*transformations)


chain = wrap_optax_optimizer(_chain)
adabelief = wrap_optax_optimizer(optax.adabelief)
adagrad = wrap_optax_optimizer(optax.adagrad)
adam = wrap_optax_optimizer(optax.adam)
adamw = wrap_optax_optimizer(optax.adamw)
fromage = wrap_optax_optimizer(optax.fromage)
lars = wrap_optax_optimizer(optax.lars)
lamb = wrap_optax_optimizer(optax.lamb)
lion = wrap_optax_optimizer(optax.lion)
noisy_sgd = wrap_optax_optimizer(optax.noisy_sgd)
radam = wrap_optax_optimizer(optax.radam)
rmsprop = wrap_optax_optimizer(optax.rmsprop)
sgd = wrap_optax_optimizer(optax.sgd)
yogi = wrap_optax_optimizer(optax.yogi)
dpsgd = wrap_optax_optimizer(optax.contrib.dpsgd)
