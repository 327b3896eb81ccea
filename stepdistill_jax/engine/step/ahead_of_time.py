"""Compiling what a run will call while its first state is read or made, in a thread of its own.

Only what JAX caches is made ready: the calls themselves stay as they are, and compile for themselves what they do not find.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any

import jax

from stepdistill_jax.base.usable_cpus import usable_cpus
from stepdistill_jax.engine.hardware.present_devices import GPU_PLATFORMS
from stepdistill_jax.engine.optim.train_state import FlaxOptimTrainState
from stepdistill_jax.engine.partition.partitioning import PjitPartitioner, PjittedFnWithContext
from stepdistill_jax.engine.step.trainer import Trainer

# A compilation takes several cores by itself: with fewer than this it is not done any sooner, and needs its memory earlier
# (docs/speed.md: on two cores no faster, 0.6 GiB more).
_FEWEST_CPUS = 5


@contextlib.contextmanager
def compilation_thread() -> Iterator[Executor | None]:
    """A thread for `compile_ahead`; None where compiling beside other work is no gain, or not safe.

    Several processes compile one after another, in one order: on GPUs they share out what is tried.

    After an error what is being compiled goes on while the error is said; the process ends when it is done. A notice that ends the run
    (`preemption`) waits for it here, where Ctrl-C still ends the process at once.
    """
    if jax.process_count() > 1 or usable_cpus() < _FEWEST_CPUS:
        yield None
        return
    thread = ThreadPoolExecutor(1, thread_name_prefix="compiling")
    try:
        yield thread
    except (KeyboardInterrupt, SystemExit):
        thread.shutdown(wait=True, cancel_futures=True)
        raise
    finally:
        thread.shutdown(wait=False, cancel_futures=True)


def compile_ahead(
    thread: Executor,
    trainer: Trainer,
    partitioner: PjitPartitioner,
    *,
    state: FlaxOptimTrainState,
    batch_spec: Mapping[str, Any],
    eval_batch_specs: Sequence[Mapping[str, Any]],
) -> None:
    """Begins to compile the training step, then the evaluation step; their first calls wait for it, and raise what went wrong.

    Args:
      thread: of `compilation_thread`.
      state: the train state's shapes and dtypes.
      batch_spec: the tf.TensorSpec of every feature of a global batch.
      eval_batch_specs: those of the batches under teacher forcing.
    """
    placed = partitioner.placed_shapes(state, partitioner.get_mesh_axes(state))
    _begin(thread, trainer.train_step, placed, _placed_batch(partitioner, batch_spec))
    if partitioner.mesh.devices.flat[0].platform in GPU_PLATFORMS:
        return  # kernels are timed on the GPU itself: beside a training step their times would mislead
    for spec in eval_batch_specs:
        _begin(thread, trainer.eval_step, placed.params, _placed_batch(partitioner, spec))


def _begin(thread: Executor, step: Any, *args: Any) -> None:
    if isinstance(step, PjittedFnWithContext):  # not so of a Trainer that somebody else has written
        step.compile_ahead(thread, *args)


def _placed_batch(partitioner: PjitPartitioner, spec: Mapping[str, Any]) -> dict[str, jax.ShapeDtypeStruct]:
    rows = {
        name: jax.ShapeDtypeStruct(tuple(feature.shape), feature.dtype.as_numpy_dtype)
        for name, feature in spec.items()
    }
    return partitioner.placed_shapes(rows, dict.fromkeys(rows, partitioner.data_partition_spec))
