"""Parameters and data over a named device mesh: T5X's `PjitPartitioner` and its table of logical-axis rules."""

import contextlib
import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from flax.linen import partitioning as flax_partitioning
from jax.experimental import mesh_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

LogicalAxisRules = Sequence[tuple[str, str | tuple[str, ...] | None]]
HardwareMesh = tuple[int, int, int, int]

DATA_AXIS = "data"
MODEL_AXIS = "model"


def standard_logical_axis_rules(
    activation_partitioning_dims: int = 1,
    parameter_partitioning_dims: int = 1,
    additional_rules: LogicalAxisRules | None = None,
) -> LogicalAxisRules:
    """T5X's table from logical axes to mesh axes; the first rule that fits an array wins.

    Args:
      activation_partitioning_dims: 1 keeps activations whole along 'embed'; 2 splits them over 'model' as well.
      parameter_partitioning_dims: 1 splits parameters over 'model' only; 2 over 'data' as well, which is FSDP (ZeRO-3).
      additional_rules: appended, so they serve axes that the table does not name.

    Raises:
      ValueError: if a number of dims is not 1 or 2.
    """
    if activation_partitioning_dims not in (1, 2) or parameter_partitioning_dims not in (1, 2):
        raise ValueError(
            f"activation_partitioning_dims={activation_partitioning_dims} and parameter_partitioning_dims="
            f"{parameter_partitioning_dims}: each must be 1 or 2."
        )
    rules: list[tuple[str, str | tuple[str, ...] | None]] = [
        ("batch", DATA_AXIS),  # data parallelism
        ("vocab", MODEL_AXIS),  # the embedding and the logits are the largest matrices: split their rows
        ("mlp", MODEL_AXIS),  # Megatron's split: columns of wi, rows of wo, one all-reduce a block
        ("heads", MODEL_AXIS),  # likewise, each device its own heads
        ("kv", None),  # inside a head: never split
        ("joined_kv", MODEL_AXIS),  # heads x kv as the attention's parameters hold them
    ]
    if activation_partitioning_dims == 2:
        rules.append(("embed", MODEL_AXIS))
    if parameter_partitioning_dims == 2:
        rules.append(("embed", DATA_AXIS))
    if activation_partitioning_dims == parameter_partitioning_dims == 1:
        rules.append(("embed", None))
    replicated = ("relpos_buckets", "abspos_buckets", "length", "layers", "stack", "mlp_activations")
    rules.extend((axis, None) for axis in replicated)  # small, or walked over one after another
    rules.extend(additional_rules or ())
    return rules


@dataclasses.dataclass(frozen=True)
class DataLayout:
    """Which rows of the global batch this process reads: shard `shard_id` of `num_shards`."""

    batch_size: int
    shard_id: int
    num_shards: int
    is_first_host_in_replica_set: bool


class PjitPartitioner:
    """Splits the train state and the batch over a mesh with axes 'data' and 'model'.

    Attributes:
      mesh: the device mesh, made at the first use.
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
          ici_mesh_shape: sizes of the mesh axes within a slice, instead of num_partitions: (data, model), or
            (replica, data, model) together with dcn_mesh_shape.
          dcn_mesh_shape: sizes of the mesh axes across slices.
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
        self.params_on_devices = params_on_devices
        self._backend = backend
        self._num_partitions = num_partitions or math.prod(model_parallel_submesh or ())
        self._ici_mesh_shape = ici_mesh_shape
        self._dcn_mesh_shape = dcn_mesh_shape
        rules = standard_logical_axis_rules() if logical_axis_rules is None else logical_axis_rules
        if dcn_mesh_shape is not None:
            rules = [(axis, ("replica", DATA_AXIS) if axis == "batch" else to) for axis, to in rules]
        self.logical_axis_rules = tuple(rules)
        self._mesh: Mesh | None = None

    @property
    def mesh(self) -> Mesh:
        if self._mesh is None:
            self._mesh = self._make_mesh()
        return self._mesh

    def _make_mesh(self) -> Mesh:
        devices = jax.devices(self._backend)
        if self._dcn_mesh_shape is not None:
            grid = mesh_utils.create_hybrid_device_mesh(self._ici_mesh_shape, self._dcn_mesh_shape, devices)
            return Mesh(grid, ("replica", DATA_AXIS, MODEL_AXIS))
        if self._ici_mesh_shape is not None:
            shape = tuple(self._ici_mesh_shape)
        else:
            shape = (len(devices) // self._num_partitions, self._num_partitions)
        if math.prod(shape) != len(devices):
            raise ValueError(
                f"The mesh (data, model) = {shape} does not use all {len(devices)} devices; num_partitions="
                f"{self._num_partitions or None} must divide {len(devices)}."
            )
        return Mesh(mesh_utils.create_device_mesh(shape, devices), (DATA_AXIS, MODEL_AXIS))

    @property
    def data_partition_spec(self) -> PartitionSpec:
        """How a batch is split: its rows over the data axes."""
        return PartitionSpec(next((to for axis, to in self.logical_axis_rules if axis == "batch"), DATA_AXIS))

    @property
    def data_mesh_size(self) -> int:
        """Into how many parts the rows of a batch are split."""
        axes = self.data_partition_spec[0]
        return math.prod(self.mesh.shape[axis] for axis in ((axes,) if isinstance(axes, str) else axes or ()))

    def get_data_layout(self, batch_size: int | None = None, host_index: int | None = None) -> DataLayout:
        """Which rows of a global batch a process reads.

        Raises:
          ValueError: if the batch does not split over the data axes.
        """
        parts = self.data_mesh_size
        batch_size = parts if batch_size is None else batch_size
        if batch_size % parts:
            raise ValueError(
                f"batch_size={batch_size} does not split over {parts} devices on mesh axis '{DATA_AXIS}'; use a multiple "
                f"of {parts}."
            )
        num_shards = min(jax.process_count(), parts)
        host = jax.process_index() if host_index is None else host_index
        # Processes that hold parts of one copy of the model read the same rows.
        hosts_per_shard = jax.process_count() // num_shards
        return DataLayout(
            batch_size=batch_size,
            shard_id=host // hosts_per_shard,
            num_shards=num_shards,
            is_first_host_in_replica_set=host % hosts_per_shard == 0,
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

    def shardings(self, specs: Any) -> Any:
        """NamedShardings on this mesh for a tree of PartitionSpecs (None: left to the compiler)."""
        return jax.tree.map(
            lambda spec: None if spec is None else NamedSharding(self.mesh, spec),
            specs,
            is_leaf=lambda leaf: leaf is None or isinstance(leaf, PartitionSpec),
        )

    @contextlib.contextmanager
    def context(self):
        """What code with logical sharding constraints is traced under: the mesh and the table of rules."""
        with jax.set_mesh(self.mesh), nn.logical_axis_rules(self.logical_axis_rules):
            yield

    def partition(
        self,
        fn: Callable[..., Any],
        in_axis_resources: Any,
        out_axis_resources: Any,
        static_argnums: int | Sequence[int] = (),
        donate_argnums: int | Sequence[int] = (),
    ) -> Callable[..., Any]:
        """`jax.jit(fn)` with arguments and results split as the trees of PartitionSpecs say."""
        jitted = jax.jit(
            fn,
            in_shardings=self.shardings(in_axis_resources),
            out_shardings=self.shardings(out_axis_resources),
            static_argnums=static_argnums,
            donate_argnums=donate_argnums,
        )

        def partitioned(*args: Any) -> Any:
            with self.context():
                return jitted(*args)

        def lower(*args: Any) -> Any:
            with self.context():
                return jitted.lower(*args)

        partitioned.lower = lower
        return partitioned

    def compile(self, partitioned_fn: Callable[..., Any], *args: Any) -> Any:
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


def _is_axis_names(leaf: Any) -> bool:
    # A plain tuple: an empty named tuple is Optax's state without arrays, not an array's axes.
    return type(leaf) is tuple and all(axis is None or isinstance(axis, str) for axis in leaf)
