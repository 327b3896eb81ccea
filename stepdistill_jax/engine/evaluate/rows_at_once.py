"""How many rows are decoded at a time where that is 'auto': on a GPU or TPU as many as fit, elsewhere 64.

A decoding step reads every parameter for one token a row, so more rows cost little until the caches outgrow the parameters. From
so many rows that all examples are decoded at once, 512 at most, the number is halved until the step, compiled for it, fits into nine
tenths of what is free of the device's memory. A GPU's compiler is told to compute nothing again to make it fit.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from stepdistill_jax.base.messages import say_once
from stepdistill_jax.engine.cluster import exchange
from stepdistill_jax.engine.hardware import step_memory
from stepdistill_jax.engine.partition.partitioning import PjitPartitioner, PjittedFnWithContext

AUTO = "auto"
# Where nothing is to be gained by more, or nobody knows what fits.
USUAL = 64
MOST = 512
_USED_OF_FREE = 0.9


def number_of(batch_size: int | str) -> int:
    """Of a batch that is not decoded, which has no 'auto'."""
    return USUAL if batch_size == AUTO else batch_size


def as_many_as_fit(
    step: PjittedFnWithContext,
    params: Any,
    batch_of: Callable[[int], Mapping[str, np.ndarray]],
    num_examples: int,
    partitioner: PjitPartitioner,
) -> int:
    """Rows of a batch, a multiple of the devices that it is split over. Every process must call this.

    Args:
      step: (params, batch) -> outputs.
      params: shapes with their places.
      batch_of: number of rows -> the features of so many.
      num_examples: that are to be decoded.
    """
    devices = partitioner.data_mesh_size
    free = _free_bytes(partitioner.mesh)
    if free is None:
        return _split(min(USUAL, num_examples), devices)
    num_batches = -(-num_examples // MOST)
    rows = tried = _split(-(-num_examples // num_batches), devices)
    while rows > devices and not _fits(step, params, batch_of(rows), partitioner, free):
        rows = _split(rows // 2, devices)
    if jax.process_index() == 0:
        reason = f", as {tried} do not fit beside what is in the devices' memory" if rows < tried else ""
        say_once(f"decoding {rows} rows at a time{reason}")
    return rows


def half(rows: int, devices: int, error: Exception) -> int:
    """Half of the rows, where it was for want of memory that so many could not be decoded.

    Raises:
      Exception: the error itself, where it was not, where there are no fewer rows, or where other processes know nothing of it.
    """
    if "RESOURCE_EXHAUSTED" not in str(error) or rows <= devices or jax.process_count() > 1:
        raise error
    rows = _split(rows // 2, devices)
    say_once(f"the memory is too full by now: decoding {rows} rows at a time")
    return rows


def _split(rows: int, devices: int) -> int:
    return -(-rows // devices) * devices


def _free_bytes(mesh: jax.sharding.Mesh) -> int | None:
    """Of the fullest device of all processes'; None of CPUs, and where one does not say."""

    def here() -> int | None:
        if _platform(mesh) == "cpu":
            return None
        free = [step_memory.free_bytes(device) for device in mesh.local_devices]
        return None if None in free else min(free)

    everywhere = exchange.results_of_all(here)
    return None if None in everywhere else int(_USED_OF_FREE * min(everywhere))


def _platform(mesh: jax.sharding.Mesh) -> str:
    return mesh.devices.flat[0].platform


def _fits(
    step: PjittedFnWithContext,
    params: Any,
    batch: Mapping[str, np.ndarray],
    partitioner: PjitPartitioner,
    free_bytes: int,
) -> bool:
    """By all processes' compilers. What the compiler makes is what the step is then run with."""
    specs = dict.fromkeys(batch, partitioner.data_partition_spec)
    shapes = partitioner.placed_shapes(dict(batch), specs)

    def here() -> bool:
        try:
            compiled = step_memory.compile_step(step.lower(params, shapes))
        except step_memory.ProgramTooLarge:
            return False
        stats = compiled.memory_analysis()
        needed = stats.temp_size_in_bytes + stats.output_size_in_bytes
        return needed + step_memory.bytes_of_one_device(shapes, partitioner.shardings(specs)) <= free_bytes

    return all(exchange.results_of_all(here))
