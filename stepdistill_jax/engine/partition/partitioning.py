"""Parameters and data over a named device mesh: T5X's `PjitPartitioner` and its table of logical-axis rules."""

import contextlib
import dataclasses
import math
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from flax.linen import partitioning as flax_partitioning
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from stepdistill_jax.engine.hardware.xla_options import compiler_options, flags_of_environment
from stepdistill_jax.engine.partition.axis_rules import (
    AxisNames,
    LogicalAxisRules,
    standard_logical_axis_rules,
)
from stepdistill_jax.engine.partition.host_chunks import LocalChunker, LocalChunkInfo
from stepdistill_jax.engine.partition.meshes import (
    DATA_AXIS,
    MODEL_AXIS,
    REPLICA_AXIS,
    HardwareMesh,
    TpuMesh,
    bounds_from_last_device,
    default_mesh,
    get_coords,
    get_cpu_mesh,
    get_gpu_mesh,
    get_mesh,
    make_mesh,
)

__all__ = [
    "DATA_AXIS", "MODEL_AXIS", "AxisNames", "BasePartitioner", "BasePjitPartitioner", "DataLayout", "HardwareMesh", "LocalChunkInfo",
    "LocalChunker", "LogicalAxisRules", "PartitionSpec", "PjitPartitioner", "PjittedFnWithContext", "TpuMesh",
    "bounds_from_last_device", "default_mesh", "get_coords", "get_cpu_mesh", "get_gpu_mesh", "get_mesh", "global_mesh_defined",
    "host_local_array_to_global_array", "standard_logical_axis_rules", "with_sharding_constraint",
]  # fmt: skip


@dataclasses.dataclass(frozen=True)
class DataLayout:
    """Which rows of the global batch this process reads: shard `shard_id` of `num_shards`.

    Attributes:
      is_first_host_in_replica_set: whether no process before it reads the same rows.
    """

    batch_size: int
    shard_id: int
    num_shards: int
    is_first_host_in_replica_set: bool


class PjittedFnWithContext:
    """A jitted function that is traced, lowered and called under the mesh and the table of rules. T5X's name."""

    def __init__(
        self,
        pjitted_fn: Callable[..., Any],
        partition_mesh: Mesh,
        logical_axis_rules: LogicalAxisRules = (),
    ) -> None:
        self._pjitted_fn, self._mesh, self._rules = pjitted_fn, partition_mesh, logical_axis_rules
        self._compiling: list[Future[None]] = []

    def __call__(self, *args: Any) -> Any:
        while self._compiling:
            self._compiling.pop().result()
        with mesh_context(self._mesh, self._rules):
            return self._pjitted_fn(*args)

    def trace(self, *args: Any) -> Any:
        """With its `jaxpr`, for arguments of these shapes."""
        with mesh_context(self._mesh, self._rules):
            return self._pjitted_fn.trace(*args)

    def lower(self, *args: Any) -> Any:
        """Ready to be compiled, for arguments of these shapes."""
        with mesh_context(self._mesh, self._rules):
            return self._pjitted_fn.lower(*args)

    def compile_ahead(self, thread: Executor, *args: Any) -> None:
        """Has a thread compile it for arguments of these shapes and shardings; JAX's caches hand that to calls with such arguments.

        The next call waits for the thread, and raises what went wrong there.
        """
        import gin  # not needed where nothing is configured by it

        scopes = gin.current_scope()  # of this thread; what is traced may be configured by them

        def compile_in_scopes() -> None:
            with gin.config_scope(scopes):
                self.lower(*args).compile()

        self._compiling.append(thread.submit(compile_in_scopes))


@contextlib.contextmanager
def mesh_context(mesh: Mesh, logical_axis_rules: LogicalAxisRules):
    """What code with logical sharding constraints is traced under."""
    with jax.set_mesh(mesh), nn.logical_axis_rules(logical_axis_rules):
        yield


class PjitPartitioner:
    """Splits the train state and the batch over a mesh with axes 'data' and 'model'.

    Attributes:
      mesh: the device mesh, made at the first use.
      params_on_devices: as given; parameters are on devices either way.
      logical_axis_rules: as used: with 'replica', rows of a batch are split over it as well.
    """

    def __init__(
        self,
        num_partitions: int | None = None,
        model_parallel_submesh: HardwareMesh | None = None,
        params_on_devices: bool = True,
        backend: str | None = None,
        ici_mesh_shape: Sequence[int] | None = None,
        dcn_mesh_shape: Sequence[int] | None = None,
        logical_axis_rules: LogicalAxisRules | None = None,
    ) -> None:
        """Takes T5X's arguments.

        Args:
          num_partitions: devices that hold one copy of the model (size of the 'model' axis). The rest is 'data'.
          model_parallel_submesh: (x, y, z, cores) tile of a TPU torus for the 'model' axis; instead of num_partitions.
          params_on_devices: taken for T5X's sake; parameters are always on devices.
          backend: jax backend whose devices to use, default the first.
          ici_mesh_shape: sizes of the mesh axes over fast links (TPU: within a slice; GPU: within a host), instead of
            num_partitions: (data, model), or (replica, data, model) together with dcn_mesh_shape.
          dcn_mesh_shape: sizes of the mesh axes over the network, between slices or hosts. Each axis is the product of both.
          logical_axis_rules: default `standard_logical_axis_rules()`.

        Raises:
          ValueError: if none or several of the ways to give the 'model' axis are used.
        """
        if (dcn_mesh_shape is None) != (ici_mesh_shape is None or len(ici_mesh_shape) == 2):
            raise ValueError(
                f"ici_mesh_shape={ici_mesh_shape} and dcn_mesh_shape={dcn_mesh_shape}: give (data, model) alone, or "
                "(replica, data, model) for both."
            )
        if ici_mesh_shape is None and bool(num_partitions) == bool(model_parallel_submesh):
            raise ValueError(
                f"num_partitions={num_partitions} and model_parallel_submesh={model_parallel_submesh}: set one of them."
            )
        if ici_mesh_shape is not None:
            model_size = ici_mesh_shape[-1] * (dcn_mesh_shape[-1] if dcn_mesh_shape else 1)
            # T5X asks for num_partitions even so, and its run files all have 1: that says nothing.
            if model_parallel_submesh or num_partitions not in (None, 1, model_size):
                raise ValueError(
                    f"num_partitions={num_partitions} and model_parallel_submesh={model_parallel_submesh} beside "
                    f"ici_mesh_shape={tuple(ici_mesh_shape)}, whose '{MODEL_AXIS}' axis has {model_size}: set both to None."
                )
        self.params_on_devices = params_on_devices
        self._backend = backend
        self._devices: Sequence[Any] | None = None
        self._mesh_arguments = {
            "num_partitions": num_partitions,
            "model_parallel_submesh": model_parallel_submesh,
            "ici_mesh_shape": ici_mesh_shape,
            "dcn_mesh_shape": dcn_mesh_shape,
        }
        rules = standard_logical_axis_rules() if logical_axis_rules is None else logical_axis_rules
        if dcn_mesh_shape is not None:
            rules = [(axis, (REPLICA_AXIS, DATA_AXIS) if axis == "batch" else to) for axis, to in rules]
        self.logical_axis_rules = tuple(rules)
        self._mesh: Mesh | None = None

    def use_devices(self, devices: Sequence[Any]) -> None:
        """Takes these devices in place of the backend's, before the mesh is made: such as ones to compile for only."""
        assert self._mesh is None, "the mesh is made already"
        self._devices = devices

    @property
    def mesh(self) -> Mesh:
        if self._mesh is None:
            devices = jax.devices(self._backend) if self._devices is None else self._devices
            self._mesh = make_mesh(devices, **self._mesh_arguments)
        return self._mesh

    @property
    def data_partition_spec(self) -> PartitionSpec:
        """How a batch is split: its rows over the data axes."""
        return PartitionSpec(next((to for axis, to in self.logical_axis_rules if axis == "batch"), DATA_AXIS))

    @property
    def _data_axes(self) -> tuple[str, ...]:
        axes = self.data_partition_spec[0]
        return (axes,) if isinstance(axes, str) else tuple(axes or ())

    @property
    def data_mesh_size(self) -> int:
        """Into how many parts the rows of a batch are split."""
        return math.prod(self.mesh.shape[axis] for axis in self._data_axes)

    def get_data_layout(self, batch_size: int | None = None, host_index: int | None = None) -> DataLayout:
        """Which rows of a global batch a process reads: shard i is the i-th of `num_shards` equal ranges.

        Args:
          batch_size: rows of the global batch, default one to each data device.
          host_index: of the process, default this one.

        Raises:
          ValueError: if the batch does not split over the data axes.
        """
        parts = self.data_mesh_size
        batch_size = parts if batch_size is None else batch_size
        if isinstance(batch_size, str):
            raise ValueError(
                f"batch_size={batch_size!r} is for decoding; a batch that is trained on or scored has a number of rows."
            )
        if batch_size % parts:
            raise ValueError(
                f"batch_size={batch_size} does not split over {parts} devices on mesh axis '{DATA_AXIS}'; use a multiple "
                f"of {parts}."
            )
        chunks = LocalChunker(self.mesh, host_index)
        return DataLayout(
            batch_size=batch_size,
            shard_id=chunks.get_shard_id(self._data_axes),
            num_shards=chunks.num_shards(self._data_axes),
            is_first_host_in_replica_set=chunks.get_replica_id(self._data_axes) == 0,
        )

    def get_logical_axes(self, train_state: Any) -> Any:
        """The train state with a tuple of logical axes, or None, in place of every array."""
        return train_state.as_logical_axes()

    def get_mesh_axes(self, train_state: Any) -> Any:
        """The train state with a PartitionSpec in place of every array."""
        return jax.tree.map(
            lambda axes: (
                PartitionSpec()
                if axes is None
                else PartitionSpec(*flax_partitioning.logical_to_mesh_axes(axes, self.logical_axis_rules))
            ),
            self.get_logical_axes(train_state),
            is_leaf=lambda leaf: leaf is None or _is_axis_names(leaf),
        )

    def check_divides(self, train_state: Any, config: Any = None) -> None:
        """Checks that every array splits evenly, before anything is compiled.

        Args:
          train_state: of arrays or their shapes.
          config: the network's, if it has one: its heads are split too, though no parameter has an axis of them.

        Raises:
          ValueError: names the array, its length and the mesh axis that it does not split over.
        """
        if (num_heads := getattr(config, "num_heads", None)) is not None:
            to_mesh = dict(reversed(self.logical_axis_rules))
            self._check_axis("num_heads", num_heads, to_mesh.get("heads"))
        shapes = jax.tree_util.tree_flatten_with_path(train_state)[0]
        specs = jax.tree.leaves(
            self.get_mesh_axes(train_state), is_leaf=lambda leaf: isinstance(leaf, PartitionSpec)
        )
        for (path, leaf), spec in zip(shapes, specs, strict=True):
            for number, mesh_axes in enumerate(spec):
                name = jax.tree_util.keystr(path, simple=True, separator="/")
                self._check_axis(f"axis {number} of {name} {list(leaf.shape)}", leaf.shape[number], mesh_axes)

    def _check_axis(self, what: str, length: int, mesh_axes: str | tuple[str, ...] | None) -> None:
        names = (mesh_axes,) if isinstance(mesh_axes, str) else tuple(mesh_axes or ())
        parts = math.prod(self.mesh.shape[name] for name in names)
        if length % parts:
            raise ValueError(
                f"{what} is {length}, which does not split over {parts} devices on mesh axis '{', '.join(names)}' of the mesh "
                f"{dict(self.mesh.shape)}; use a divisor of {length} there (num_partitions is 'model'), or other "
                "logical_axis_rules."
            )

    def shardings(self, specs: Any) -> Any:
        """NamedShardings on this mesh for a tree of PartitionSpecs (None: left to the compiler)."""
        return jax.tree.map(
            lambda spec: None if spec is None else NamedSharding(self.mesh, spec),
            specs,
            is_leaf=lambda leaf: leaf is None or isinstance(leaf, PartitionSpec),
        )

    def placed_shapes(self, tree: Any, specs: Any) -> Any:
        """A tree of arrays or their shapes as ShapeDtypeStructs that know their sharding, which a tree of PartitionSpecs says."""
        return jax.tree.map(
            lambda leaf, sharding: jax.ShapeDtypeStruct(
                leaf.shape, leaf.dtype, sharding=sharding, weak_type=getattr(leaf, "weak_type", False)
            ),
            tree,
            self.shardings(specs),
        )

    def context(self) -> contextlib.AbstractContextManager[None]:
        """What code with logical sharding constraints is traced under: the mesh and the table of rules."""
        return mesh_context(self.mesh, self.logical_axis_rules)

    def partition(
        self,
        fn: Callable[..., Any],
        in_axis_resources: Any,
        out_axis_resources: Any,
        static_argnums: int | Sequence[int] = (),
        donate_argnums: int | Sequence[int] = (),
        *,
        as_written: bool = False,
    ) -> PjittedFnWithContext:
        """`jax.jit(fn)` with arguments and results split as the trees of PartitionSpecs say.

        With `as_written` a GPU's compiler computes nothing a second time to save memory (`hardware.xla_options`).
        """
        jitted = jax.jit(
            fn,
            in_shardings=self.shardings(in_axis_resources),
            out_shardings=self.shardings(out_axis_resources),
            static_argnums=static_argnums,
            donate_argnums=donate_argnums,
            compiler_options=self._compiler_options(as_written=as_written),
        )
        return PjittedFnWithContext(jitted, self.mesh, self.logical_axis_rules)

    def _compiler_options(self, *, as_written: bool) -> dict[str, Any] | None:
        platform = self.mesh.devices.flat[0].platform
        flags = flags_of_environment()
        return compiler_options(platform, self.mesh.size, flags, as_written=as_written) or None

    def compile(self, partitioned_fn: PjittedFnWithContext, *args: Any) -> Any:
        """Compiles a partitioned function ahead of time for arguments of these shapes."""
        return partitioned_fn.lower(*args).compile()

    def global_batch(self, local_batch: dict[str, np.ndarray]) -> dict[str, jax.Array]:
        """Puts this process's rows [batch / num_shards, …] on its devices, as its part of the global batch."""
        sharding = NamedSharding(self.mesh, self.data_partition_spec)
        if jax.process_count() == 1:
            return jax.device_put(local_batch, sharding)
        return {
            name: jax.make_array_from_process_local_data(sharding, rows) for name, rows in local_batch.items()
        }


# T5X's names for what user code may subclass or ask for.
BasePartitioner = BasePjitPartitioner = PjitPartitioner


def _is_axis_names(leaf: Any) -> bool:
    # A plain tuple: an empty named tuple is Optax's state without arrays, not an array's axes.
    return type(leaf) in (tuple, AxisNames) and all(axis is None or isinstance(axis, str) for axis in leaf)


def global_mesh_defined() -> bool:
    """Whether code is being traced or run under a mesh."""
    return not jax.sharding.get_abstract_mesh().empty


def with_sharding_constraint(x: Any, axis_resources: PartitionSpec) -> Any:
    """`jax.lax.with_sharding_constraint` under a mesh; outside of one, `x` as it is."""
    return jax.lax.with_sharding_constraint(x, axis_resources) if global_mesh_defined() else x


def host_local_array_to_global_array(arr_tree: Any, mesh: Mesh, pspecs: Any) -> Any:
    """Arrays of this process's rows as its parts of global arrays; a spec of None is not split."""
    from jax.experimental import multihost_utils

    specs = jax.tree.map(
        lambda spec: PartitionSpec() if spec is None else spec, pspecs, is_leaf=lambda leaf: leaf is None
    )
    return multihost_utils.host_local_array_to_global_array(arr_tree, mesh, specs)
