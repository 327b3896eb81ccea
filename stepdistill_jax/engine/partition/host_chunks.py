"""Which part of a split array lies on the devices of one process."""

import dataclasses
from collections.abc import Collection, Sequence

import numpy as np
from jax.sharding import Mesh


@dataclasses.dataclass(frozen=True)
class LocalChunkInfo:
    """A process's part of an array.

    Attributes:
      slice: of each dimension.
      replica_id: 0 in the first process that holds this part, 1 in the next, …
    """

    slice: tuple[slice, ...]
    replica_id: int


class LocalChunker:
    """Where the devices of a process stand on a mesh. T5X's name.

    Attributes:
      num_chunks: mesh axis -> into how many parts processes divide it.
      chunk_ids: mesh axis -> which of them is this process's.
    """

    def __init__(self, global_mesh: Mesh, process_index: int | None = None) -> None:
        """Looks up the devices of `process_index`, default this process.

        Raises:
          ValueError: if they are not one block of the mesh, or the process has none.
        """
        self.global_mesh = global_mesh
        self.mesh_axes = list(global_mesh.shape)
        if process_index is None:
            local = global_mesh.local_mesh
            first = np.argwhere(global_mesh.devices == local.devices.flat[0])[0]
            sizes = list(local.shape.values())
        else:
            owners = np.vectorize(lambda device: device.process_index)(global_mesh.devices)
            places = np.argwhere(owners == process_index)
            if not len(places):
                raise ValueError(
                    f"host_index={process_index} has no device on the mesh {dict(global_mesh.shape)}."
                )
            first, sizes = places[0], [int(size) for size in np.ptp(places, axis=0) + 1]
            if np.prod(sizes) != len(places):
                raise ValueError(
                    f"The devices of process {process_index} are not one block of the mesh {dict(global_mesh.shape)}; choose "
                    "num_partitions so that it divides, or is a multiple of, the devices of a host."
                )
        shape = list(global_mesh.shape.values())
        self.num_chunks = {a: n // size for a, n, size in zip(self.mesh_axes, shape, sizes, strict=True)}
        self.chunk_ids = {
            a: int(at) // size for a, at, size in zip(self.mesh_axes, first, sizes, strict=True)
        }

    def num_shards(self, axes: Collection[str]) -> int:
        """Into how many parts processes divide these axes together."""
        return int(np.prod([self.num_chunks[axis] for axis in axes], dtype=int))

    def get_shard_id(self, sharded_mesh_axes: str | Collection[str]) -> int:
        """Which part along these axes is this process's, the last axis moving fastest."""
        return self._number(
            (sharded_mesh_axes,) if isinstance(sharded_mesh_axes, str) else tuple(sharded_mesh_axes)
        )

    def get_replica_id(self, sharded_mesh_axes: str | Collection[str]) -> int:
        """Which of the processes that hold the same part this is."""
        sharded = {sharded_mesh_axes} if isinstance(sharded_mesh_axes, str) else set(sharded_mesh_axes)
        return self._number([axis for axis in self.mesh_axes if axis not in sharded])

    def _number(self, axes: Sequence[str]) -> int:
        number = 0
        for axis in axes:
            number = number * self.num_chunks[axis] + self.chunk_ids[axis]
        return number

    def get_local_chunk_info(
        self, global_shape: tuple[int, ...], mesh_axes: Sequence[str | None]
    ) -> LocalChunkInfo:
        """This process's part of an array of this shape, whose dimensions are split over these mesh axes."""
        parts = [slice(None)] * len(global_shape)
        for number, axis in enumerate(mesh_axes):
            if axis is not None:
                size = global_shape[number] // self.num_chunks[axis]
                parts[number] = slice(self.chunk_ids[axis] * size, (self.chunk_ids[axis] + 1) * size)
        used = {axis for axis in mesh_axes if axis is not None}
        return LocalChunkInfo(slice=tuple(parts), replica_id=self.get_replica_id(used))
