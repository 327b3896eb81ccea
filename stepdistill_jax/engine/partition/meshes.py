"""Which device stands where on the mesh: neighbours on 'model', which talks at every layer, are neighbours in hardware."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import Mesh

TpuMesh = tuple[int, int, int, int]  # (x, y, z, cores)
OtherMesh = tuple[int, int]  # (hosts, devices of each)
HardwareMesh = TpuMesh | OtherMesh

DATA_AXIS = "data"
MODEL_AXIS = "model"
REPLICA_AXIS = "replica"


def bounds_from_last_device(last_device: Any) -> HardwareMesh:
    """The extent of the hardware whose last corner is this device: (x, y, z, cores), or (hosts, devices of each)."""
    if len(getattr(last_device, "coords", None) or ()) == 3 and _has_cores(last_device):
        return (*(place + 1 for place in last_device.coords), last_device.core_on_chip + 1)
    return jax.process_count(), jax.local_device_count()


def get_coords(device: Any) -> HardwareMesh:
    """A device's place: (x, y, z, core), or (host, number on it)."""
    if getattr(device, "coords", None) is not None and _has_cores(device):
        return (*device.coords, device.core_on_chip)
    return device.process_index, device.id % jax.local_device_count()


def _has_cores(device: Any) -> bool:
    # A GPU's device has coords, too: (slice, host, number), and no core.
    return getattr(device, "core_on_chip", None) is not None


def make_mesh(
    devices: Sequence[Any],
    *,
    num_partitions: int | None = None,
    model_parallel_submesh: HardwareMesh | None = None,
    ici_mesh_shape: Sequence[int] | None = None,
    dcn_mesh_shape: Sequence[int] | None = None,
) -> Mesh:
    """The mesh (data, model), or (replica, data, model) with `dcn_mesh_shape`; arguments as `PjitPartitioner` has them.

    Raises:
      ValueError: if the shape does not use all devices.
    """
    if ici_mesh_shape is not None and dcn_mesh_shape is not None:
        return _hybrid_mesh(devices, ici_mesh_shape, dcn_mesh_shape)
    if ici_mesh_shape is not None:
        shape = tuple(ici_mesh_shape)
        if math.prod(shape) != len(devices):
            raise ValueError(
                f"ici_mesh_shape={shape} is a mesh (data, model) of {math.prod(shape)} devices, but there are "
                f"{len(devices)}; use sizes whose product is {len(devices)}."
            )
        num_partitions = shape[1]
    partitions = math.prod(model_parallel_submesh) if model_parallel_submesh else num_partitions
    if not partitions or len(devices) % partitions:
        raise ValueError(
            f"num_partitions={partitions} must divide {len(devices)}, the number of devices; the mesh (data, model) would not "
            "use them all."
        )
    bounds = _tpu_bounds(devices)
    if bounds is None:
        if model_parallel_submesh and len(model_parallel_submesh) == 2:
            return get_mesh(model_parallel_submesh, devices)
        # Hosts one after another, so that 'model' stays within a host where it can.
        ordered = sorted(devices, key=lambda device: (device.process_index, device.id))
        return Mesh(np.array(ordered, dtype=object).reshape(-1, partitions), (DATA_AXIS, MODEL_AXIS))
    return get_mesh(model_parallel_submesh or _submesh(partitions, bounds, devices[-1].device_kind), devices)


def _tpu_bounds(devices: Sequence[Any]) -> TpuMesh | None:
    """The extent of a single TPU slice; None for other devices."""
    last = max(devices, key=lambda device: getattr(device, "coords", None) or ())
    if len(getattr(last, "coords", None) or ()) != 3 or not _has_cores(last):
        return None
    bounds = tuple(max(places) + 1 for places in zip(*map(get_coords, devices), strict=True))
    return bounds if math.prod(bounds) == len(devices) else None


def _submesh(partitions: int, bounds: TpuMesh, device_kind: str) -> TpuMesh:
    """The tile of a TPU torus for the 'model' axis: all cores of a chip first, then few long rings.

    On TPU v2 and v3, whose hosts are squares, compact tiles instead; both choices are T5X's where it has one.
    """
    compact = device_kind in ("TPU v2", "TPU v3")
    tiles = [
        tile
        for tile in itertools.product(*(range(1, bound + 1) for bound in bounds))
        if math.prod(tile) == partitions
        and not any(bound % size for bound, size in zip(bounds, tile, strict=True))
    ]
    assert tiles, "a divisor of a product is a product of divisors"

    def order(tile: TpuMesh):
        along = sorted(tile[:3], reverse=True)
        rings = along if compact else (sum(size > 1 for size in along), *(-size for size in along))
        return -tile[3], *rings, *(-size for size in tile)

    return min(tiles, key=order)


def get_mesh(
    model_parallel_submesh: HardwareMesh,
    input_devices: Sequence[Any] = (),
    input_local_devices: Sequence[Any] = (),
    tile_by_host_if_needed: bool = True,
    backend: str | None = None,
) -> Mesh:
    """The mesh (data, model) whose 'model' axis runs over tiles of this shape. T5X's name and arguments.

    Devices of a host stand together on both axes, so that the rows of a batch that a host reads are one range.

    Raises:
      ValueError: if the tile does not divide the hardware.
    """
    devices = list(input_devices or jax.devices(backend))
    first = min(device.process_index for device in devices)
    local = list(input_local_devices) or [device for device in devices if device.process_index == first]
    coords = {device: get_coords(device) for device in devices}
    bounds = tuple(max(places) + 1 for places in zip(*coords.values(), strict=True))
    of_host = [max(places) - min(places) + 1 for places in zip(*(get_coords(d) for d in local), strict=True)]
    tile = tuple(model_parallel_submesh)
    if len(tile) != len(bounds) or any(bound % size for bound, size in zip(bounds, tile, strict=True)):
        raise ValueError(
            f"model_parallel_submesh={tile} does not tile the hardware, {bounds}: each size must divide its dimension."
        )

    def place(device: Any) -> tuple[int, ...]:
        """Sorts by data, then model, the host's part of each before the device's."""
        keys: list[list[int]] = [[], [], [], []]
        for at, size, host in zip(coords[device], tile, of_host, strict=True):
            data, model = divmod(at, size)
            data_of_host, model_of_host = (
                (max(host // size, 1), min(host, size)) if tile_by_host_if_needed else (1, size)
            )
            for key, value in zip(
                keys, (*divmod(data, data_of_host), *divmod(model, model_of_host)), strict=True
            ):
                key.append(value)
        return tuple(itertools.chain(*keys))

    ordered = np.array(sorted(devices, key=place), dtype=object)
    return Mesh(ordered.reshape(-1, math.prod(tile)), (DATA_AXIS, MODEL_AXIS))


def _hybrid_mesh(devices: Sequence[Any], ici: Sequence[int], dcn: Sequence[int]) -> Mesh:
    """(replica, data, model), each axis the product of a part over fast links and one over the network."""
    across = math.prod(dcn)
    if math.prod(ici) * across != len(devices):
        raise ValueError(
            f"ici_mesh_shape={tuple(ici)} times dcn_mesh_shape={tuple(dcn)} is a mesh of {math.prod(ici) * across} devices, "
            f"but there are {len(devices)}."
        )
    # TPU slices, and NVLink domains, have numbers; where there are none, or another count, a host is the unit.
    slices = {getattr(device, "slice_index", None) for device in devices}
    by_process = None in slices or len(slices) != across
    units = {device.process_index for device in devices} if by_process else slices
    if len(units) != across:
        raise ValueError(
            f"dcn_mesh_shape={tuple(dcn)} is {across} groups of devices, but there are {len(units)} "
            f"{'hosts' if by_process else 'slices'}; its product must be their number."
        )
    grid = mesh_utils.create_hybrid_device_mesh(
        tuple(ici), tuple(dcn), devices, process_is_granule=by_process
    )
    return Mesh(grid, (REPLICA_AXIS, DATA_AXIS, MODEL_AXIS))


def default_mesh(
    num_partitions: int,
    model_parallel_submesh: HardwareMesh | None = None,
    backend: str | None = None,
    ici_mesh_shape: Sequence[int] | None = None,
    dcn_mesh_shape: Sequence[int] | None = None,
) -> Mesh:
    """`make_mesh` over the devices of a backend. T5X's name and arguments."""
    return make_mesh(
        jax.devices(backend),
        num_partitions=num_partitions,
        model_parallel_submesh=model_parallel_submesh,
        # T5X takes the one only with the other.
        ici_mesh_shape=ici_mesh_shape if dcn_mesh_shape is not None else None,
        dcn_mesh_shape=dcn_mesh_shape if ici_mesh_shape is not None else None,
    )


def get_cpu_mesh() -> Mesh:
    """(hosts, devices of each) as (data, model). T5X's name."""
    return get_gpu_mesh(jax.local_device_count())


def get_gpu_mesh(num_partitions: int) -> Mesh:
    """The mesh with 'model' within hosts as far as it goes. T5X's name."""
    return make_mesh(jax.devices(), num_partitions=num_partitions)
