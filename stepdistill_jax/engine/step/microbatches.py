"""How many microbatches a batch is worked through in: that the number splits, and which one 'auto' is.

`num_microbatches = 'auto'` is as few as fit into a device's memory, found before the first step by compiling it.

What is tried: n are divisors of the rows that a device has of a batch. n = 1 is compiled first. What it needs, as `precompile`
counts it, is compared with what a device has. If that is too much, the next is the smallest n for which the state, the batch and
an n-th of the temporary bytes would fit; no step can be expected to need less. From there it goes up, never down: as few as fit
by this search. A compiler that refuses a step for its size says 'too much', too. The step that is found is the one that runs: JAX
has it compiled already. Several processes compile the same, and go by the worst that any of them finds.

What is remembered: RUN/microbatches.json has the number, and what it depends on: the step (network, optimizer, state, batch, how they
are split), the devices and their memory, the versions, XLA's flags. Where all of it is the same, nothing is tried.

A run that goes on keeps its number: dropout depends on it, and so does the order that gradients are summed in. run.json has it. Where
something is not as it was, the number is tried first. If it does not fit, or splits the batch no longer, another is found, and a
line says what it was. More memory than before changes nothing for such a run.
"""

import dataclasses
import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jaxlib

from stepdistill_jax.base.messages import say_once
from stepdistill_jax.base.version import __version__
from stepdistill_jax.base.whole_files import write_atomically
from stepdistill_jax.engine.cluster import exchange
from stepdistill_jax.engine.hardware import step_memory
from stepdistill_jax.engine.hardware.step_memory import DeviceMemory, ProgramTooLarge, gib
from stepdistill_jax.engine.model import base_model
from stepdistill_jax.engine.optim.train_state import FlaxOptimTrainState
from stepdistill_jax.engine.partition.partitioning import PjitPartitioner
from stepdistill_jax.engine.step.trainer import AUTO, Trainer

FILE = "microbatches.json"
_ADDRESS = re.compile(r"0x[0-9a-f]+")


def check_microbatches(batch_size: int, num_microbatches: int | str | None, data_mesh_size: int) -> None:
    """Checks that a batch splits into microbatches that split over the data devices.

    Raises:
      ValueError: if it does not.
    """
    parts = (1 if num_microbatches == AUTO else num_microbatches or 1) * data_mesh_size
    if batch_size % parts:
        raise ValueError(
            f"batch_size={batch_size} does not split into num_microbatches={num_microbatches} over {data_mesh_size} "
            f"devices on mesh axis 'data'; use a multiple of {parts}."
        )


def placed(
    state: FlaxOptimTrainState, batch: Mapping[str, Any], partitioner: PjitPartitioner
) -> tuple[FlaxOptimTrainState, dict[str, jax.ShapeDtypeStruct]]:
    """Shapes of a state and a batch with their places on the mesh: a step compiled for these is the one that is run later."""
    rows = partitioner.placed_shapes(batch, dict.fromkeys(batch, partitioner.data_partition_spec))
    # JAX sorts the names of a dict.
    return partitioner.placed_shapes(state, partitioner.get_mesh_axes(state)), {name: rows[name] for name in batch}


def resolve(
    trainer: Trainer,
    state: FlaxOptimTrainState,
    batch: Mapping[str, Any],
    *,
    model: base_model.BaseModel,
    partitioner: PjitPartitioner,
    memory: DeviceMemory,
    folder: Path | None = None,
    began_with: int | None = None,
) -> Trainer:
    """The trainer with a number of microbatches in place of 'auto'; one that has a number comes back as it is.

    A line says which number it is, and why. Every process of a run must call this.

    Args:
      state: shapes of the train state.
      batch: feature -> shape [rows, …] of the global batch, and its dtype.
      model: that the trainer was made with.
      partitioner: likewise.
      memory: of a device. Where nobody knows how much there is, the batch is worked through at once.
      folder: the run's, where the number is remembered; None remembers nothing.
      began_with: the number that a run which goes on had.

    Raises:
      ValueError: if nothing fits, not even one row at a time.
    """
    if trainer.num_microbatches != AUTO:
        return trainer
    memory = _least(memory)
    search = _Search(trainer, *placed(state, batch, partitioner), partitioner, memory)
    facts = _facts(search.state, search.batch, model, partitioner, memory)
    remembered, began_with = json.loads(
        exchange.from_process_0(json.dumps([_remembered(folder, facts, search.candidates), began_with]))
    )
    if remembered is not None and began_with in (None, remembered):
        number = remembered
        _say(f"{search.words(number)}, as {folder / FILE} has it.")
    elif memory.usable_bytes is None:
        number = began_with if began_with in search.candidates else 1
        unknown = f"how much memory a {memory.device} of {memory.hardware} has is not known"
        _say(f"{search.words(number)}: {unknown}{search.other_than(number, began_with)}.")
    else:
        number = search.run(began_with)
    if folder is not None and jax.process_index() == 0:
        text = json.dumps({"num_microbatches": number, "depends_on": facts}, indent=2)
        write_atomically(folder / FILE, text + "\n")
    return search.trainer_of(number)


@dataclasses.dataclass(frozen=True)
class _Trial:
    """A step that was compiled; `temporary_bytes` are at least so many, None where the compiler's refusal has no figures."""

    num_microbatches: int
    fits: bool
    needs: str
    peak_bytes: int | None
    temporary_bytes: int | None


class _Search:
    """Compiles steps of more and more microbatches until one fits."""

    def __init__(
        self,
        trainer: Trainer,
        state: FlaxOptimTrainState,
        batch: Mapping[str, jax.ShapeDtypeStruct],
        partitioner: PjitPartitioner,
        memory: DeviceMemory,
    ) -> None:
        self._trainer, self._memory = trainer, memory
        self.state, self.batch = state, batch
        self._platform = partitioner.mesh.devices.flat[0].platform
        self._argument_bytes = step_memory.bytes_of_one_device(
            (state, batch), jax.tree.map(lambda leaf: leaf.sharding, (state, batch))
        )
        self._rows = next(iter(batch.values())).shape[0] // partitioner.data_mesh_size
        self.candidates = [number for number in range(1, self._rows + 1) if self._rows % number == 0]

    def trainer_of(self, number: int) -> Trainer:
        """With what was compiled of it, if that was the last number to be asked for."""
        if self._trainer.num_microbatches != number:
            self._trainer = self._trainer.with_microbatches(number)
        return self._trainer

    def words(self, number: int) -> str:
        """The number, and what it means."""
        rows = self._rows // number
        return f"num_microbatches = {number} ({rows} row{'s' if rows > 1 else ''} at once a device)"

    def run(self, began_with: int | None) -> int:
        """The number that fits; says why."""
        usable = self._memory.usable_bytes
        if self._argument_bytes > usable:
            raise ValueError(
                step_memory.does_not_fit(
                    self._memory,
                    f"{gib(self._argument_bytes)} GiB for the state and the batch alone",
                    more_parts=False,
                )
            )
        trials: list[_Trial] = []
        number = began_with if began_with in self.candidates else 1
        while not trials or not trials[-1].fits:
            if trials:
                number = self._next(trials[-1])
            trials.append(self._try(number))
        self._say_why(trials, began_with)
        return number

    def _next(self, trial: _Trial) -> int:
        """The smallest number above a trial's that could fit; else the last, whose figures then end the search."""
        later = [number for number in self.candidates if number > trial.num_microbatches]
        if not later:
            raise ValueError(
                step_memory.does_not_fit(
                    self._memory,
                    trial.needs,
                    however=f" even in {trial.num_microbatches} microbatches of one row a device",
                    more_parts=False,
                )
            )
        if trial.temporary_bytes is None:
            return later[0]
        left = self._memory.usable_bytes - self._argument_bytes
        all_temporary = trial.temporary_bytes * trial.num_microbatches
        return next((number for number in later if all_temporary <= left * number), later[-1])

    def _try(self, number: int) -> _Trial:
        """The worst that a process finds of it."""
        here = json.dumps(dataclasses.astuple(self._try_here(number)))
        trials = [_Trial(*json.loads(text)) for text in exchange.from_all(here)]
        return max(trials, key=lambda trial: (not trial.fits, trial.peak_bytes or 0))

    def _try_here(self, number: int) -> _Trial:
        try:
            compiled = step_memory.compile_step(
                self.trainer_of(number).train_step.lower(self.state, self.batch)
            )
        except ProgramTooLarge as refusal:
            temporary = refusal.temporary_bytes
            if refusal.all_bytes is not None:
                temporary = max(refusal.all_bytes - self._argument_bytes, 0)
            return _Trial(number, False, refusal.needs, None, temporary)
        found = step_memory.memory_of(compiled, self._platform)
        peak = found["peak_bytes"]
        fits = peak <= self._memory.usable_bytes
        return _Trial(number, fits, f"{gib(peak)} GiB", peak, found["temporary_bytes"])

    def _say_why(self, trials: Sequence[_Trial], began_with: int | None) -> None:
        found, source = trials[-1], f" ({self._memory.source})" if self._memory.source else ""
        line = self.words(found.num_microbatches)
        if found.num_microbatches == began_with:
            line += ", with which the run began"
        line += f": {gib(found.peak_bytes)} of {gib(self._memory.usable_bytes)} GiB{source}"
        if len(trials) > 1:
            line += f"; {trials[-2].num_microbatches} would need {trials[-2].needs.removesuffix(' GiB')}"
        _say(f"{line}{self.other_than(found.num_microbatches, began_with)}.")

    def other_than(self, number: int, began_with: int | None) -> str:
        """What is to be said where a run goes on with another number; else ''."""
        if began_with in (None, number):
            return ""
        fits = (
            "does not fit" if began_with in self.candidates else f"does not split {self._rows} rows a device"
        )
        return f"; {began_with}, with which the run began, {fits}, so its dropout is another from here on"


def _say(line: str) -> None:
    if jax.process_index() == 0:
        say_once(line)


def _least(memory: DeviceMemory) -> DeviceMemory:
    """Of all processes' devices."""
    usable, lasting = zip(
        *map(json.loads, exchange.from_all(json.dumps([memory.usable_bytes, memory.lasting_bytes]))),
        strict=True,
    )
    return dataclasses.replace(
        memory,
        usable_bytes=None if None in usable else min(usable),
        lasting_bytes=None if None in lasting else min(lasting),
    )


def _facts(
    state: FlaxOptimTrainState,
    batch: Mapping[str, jax.ShapeDtypeStruct],
    model: base_model.BaseModel,
    partitioner: PjitPartitioner,
    memory: DeviceMemory,
) -> dict[str, Any]:
    """What the number depends on, as JSON has it; of the same step the same in every process and at every start."""
    arrays = [
        (jax.tree_util.keystr(path), leaf.shape, str(leaf.dtype), str(leaf.sharding.spec))
        for path, leaf in jax.tree_util.tree_flatten_with_path(state)[0]
    ]
    optimizer = model.optimizer_def
    network = getattr(model, "module", None)
    rules = partitioner.logical_axis_rules
    step = repr((type(model), network, type(optimizer), optimizer.hyper_params, rules, arrays))
    return {
        "step": hashlib.sha256(_ADDRESS.sub("0x", step).encode()).hexdigest(),
        "batch": {name: list(leaf.shape) for name, leaf in batch.items()},
        "mesh": dict(partitioner.mesh.shape),
        "device": memory.device,
        "device_bytes": memory.lasting_bytes,
        "versions": {"stepdistill-jax": __version__, "jax": jax.__version__, "jaxlib": jaxlib.__version__},
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
    }


def _remembered(folder: Path | None, facts: Mapping[str, Any], candidates: Sequence[int]) -> int | None:
    """The number that the run's file has for the same facts; a file that can't be read is said to be so."""
    path = None if folder is None else folder / FILE
    if path is None or jax.process_index() != 0 or not path.exists():
        return None
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
        number = saved["num_microbatches"]
        if saved["depends_on"] != facts:
            return None
        if type(number) is not int or number not in candidates:
            raise ValueError(f"num_microbatches is {number!r}")
        return number
    except (ValueError, KeyError, TypeError) as error:
        reason = f"{type(error).__name__}: {error}"
        _say(f"{path} is damaged ({reason}); the number of microbatches is found anew.")
        return None
