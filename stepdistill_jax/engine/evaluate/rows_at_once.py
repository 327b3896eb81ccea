"""How many rows are decoded at a time where that is 'auto': on a GPU or TPU as many as fit, elsewhere 64.

A decoding step reads every parameter for one token a row, so more rows cost little until the caches outgrow the parameters. From
so many rows that all examples are decoded at once, 512 at most, the number is halved until the step, compiled for it, fits beside what
lies in the device's memory already.
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
    rows = _split(min(MOST, num_examples), devices)
    tried = rows
    while rows > devices and not _fits(step, params, batch_of(rows), partitioner, free):
        rows = _split(rows // 2, devices)
    if jax.process_index() == 0:
        reason = f", as {tried} do not fit beside what is in the devices' memory" if rows < tried else ""
        say_once(f"decoding {rows} rows at a time{reason}")
    return rows


def _split(rows: int, devices: int) -> int:
    return -(-rows // devices) * devices


def _free_bytes(mesh: jax.sharding.Mesh) -> int | None:
    """Of the fullest device of all processes'; None of CPUs, and where one does not say."""
    here = -1
    if mesh.devices.flat[0].platform != "cpu":
        free = [step_memory.free_bytes(device) for device in mesh.local_devices]
        here = -1 if None in free else min(free)
    everywhere = min(int(text) for text in exchange.from_all(str(here)))
    return None if everywhere < 0 else everywhere


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
    try:
        compiled = step_memory.compile_step(step.lower(params, shapes))
        stats = compiled.memory_analysis()
        needed = stats.temp_size_in_bytes + stats.output_size_in_bytes
        needed += step_memory.bytes_of_one_device(shapes, partitioner.shardings(specs))
        here = needed <= free_bytes
    except step_memory.ProgramTooLarge:
        here = False
    return all(text == "True" for text in exchange.from_all(str(here)))
