"""How a training step is computed where that is left open: in as few microbatches, and by as fast a plan of its layers, as fit.

Open are `num_microbatches = 'auto'` and, on GPUs and TPUs, a config's `scan_layers` and `remat_policy` where both are None
(`layer_stacks.open_plans`). Both are found before the first step by compiling it, and comparing what it needs, as `precompile` counts it,
with what a device has. The step that is found is the one that runs: JAX has it compiled already.

Microbatches: n are divisors of the rows that a device has of a batch. n = 1 is compiled first. If that needs too much, the next is
the smallest n for which the state, the batch and four fifths of an n-th of the temporary bytes would fit; no step is expected to need less. From
there it goes up, never down: as few as fit by this search. A compiler that refuses a step for its size says 'too much', too. A GPU's
compiler is told to compute nothing again to save memory (`Trainer.with_microbatches`); a TPU's does so by itself. On both a twentieth
of the memory is left for batches to come and for what the allocator can't use.

Layers: plans are tried from the fastest on, each with its own search. One that wants so many microbatches that few tokens are
left to work on at once is passed over, as then the parameters' way through the memory takes the time that it saves.

What is remembered: RUN/fitted_step.json (`fitted_before`). Where all is the same as then, nothing is tried. Several processes compile the
same, and go by the worst that any of them finds.

A run that goes on keeps its plan: dropout depends on the number of microbatches, and so does the order that gradients are
summed in. run.json has it. Where something is not as it was, that plan is tried first, then leaner layers with the same number. If
nothing of that fits, or the number splits the batch no longer, another is found, and a line says what it was. More memory than before
changes nothing for such a run.
"""

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from stepdistill_jax.base.messages import say_once
from stepdistill_jax.engine.cluster import exchange
from stepdistill_jax.engine.hardware import step_memory
from stepdistill_jax.engine.hardware.step_memory import DeviceMemory, ProgramTooLarge, gib
from stepdistill_jax.engine.model import base_model
from stepdistill_jax.engine.model.layer_stacks import LayerPlan, open_plans
from stepdistill_jax.engine.optim.train_state import FlaxOptimTrainState
from stepdistill_jax.engine.partition.partitioning import PjitPartitioner
from stepdistill_jax.engine.step import fitted_before
from stepdistill_jax.engine.step.trainer import AUTO, Trainer

# Tokens of a microbatch, a device, below which leaner layers are taken. Each microbatch reads and adds to all gradients, some 14 bytes a
# parameter, and computes 6 FLOPs a parameter and token: on an A100 and an H100 at 40 % of their peak this is a tenth of the
# time at 2,000 tokens. By these figures, not by measurement.
_FEWEST_TOKENS = 2048
_USED_OF_ACCELERATORS = 0.95
_LEAST_OF_A_SHARE = 0.8  # of the temporary bytes of all at once


@dataclasses.dataclass(frozen=True)
class StepPlan:
    """How a step is computed; `layers` None is as the model's config says."""

    num_microbatches: int
    layers: LayerPlan | None = None

    @classmethod
    def from_json(cls, plan: Mapping[str, Any]) -> "StepPlan":
        """Of `dataclasses.asdict`.

        Raises:
          KeyError, TypeError: if it is none.
        """
        layers = plan["layers"]
        return cls(plan["num_microbatches"], None if layers is None else LayerPlan(**layers))


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
    return partitioner.placed_shapes(state, partitioner.get_mesh_axes(state)), {
        name: rows[name] for name in batch
    }


def plan_of(trainer: Trainer) -> dict[str, Any]:
    """How a trainer computes its step, for run.json; `resolve` takes it back."""
    layers = getattr(trainer, "layers", None)  # not so of a Trainer that somebody else has written
    return dataclasses.asdict(StepPlan(trainer.num_microbatches or 1, layers))


def leaves_open(trainer: Trainer, model: base_model.BaseModel, partitioner: PjitPartitioner) -> bool:
    """Whether `resolve` has something to find."""
    open_layers = open_plans(_config(model), _platform(partitioner), splits_parameters=True)
    return trainer.num_microbatches == AUTO or (isinstance(trainer, Trainer) and bool(open_layers))


def resolve(
    trainer: Trainer,
    state: FlaxOptimTrainState,
    batch: Mapping[str, Any],
    *,
    model: base_model.BaseModel,
    partitioner: PjitPartitioner,
    memory: DeviceMemory,
    folder: Path | None = None,
    began_with: Mapping[str, Any] | None = None,
    must_fit: bool = True,
) -> Trainer:
    """The trainer with a plan for what was left open; one that leaves nothing open comes back as it is.

    A line says what was found, and why. Every process of a run must call this.

    Args:
      state: shapes of the train state.
      batch: feature -> shape [rows, …] of the global batch, and its dtype.
      model: that the trainer was made with.
      partitioner: likewise.
      memory: of a device. Where nobody knows how much there is, the batch is worked through at once, the layers as the config says.
      folder: the run's, where the plan is remembered; None remembers nothing.
      began_with: `plan_of` a run which goes on.
      must_fit: whether it is an error that nothing fits; else the plan that was tried last comes back.

    Raises:
      ValueError: if nothing fits, not even one row at a time.
    """
    if not leaves_open(trainer, model, partitioner):
        return trainer
    memory = _least(memory)
    search = _Search(trainer, *placed(state, batch, partitioner), model, partitioner, memory)
    facts = fitted_before.facts(
        search.state, search.batch, model, partitioner, memory, trainer.num_microbatches
    )
    remembered = None
    if folder is not None and jax.process_index() == 0:
        remembered = fitted_before.read(folder, facts, search.check)
    texts = json.loads(exchange.from_process_0(json.dumps([remembered, began_with])))
    try:
        remembered, began = (None if text is None else StepPlan.from_json(text) for text in texts)
    except (KeyError, TypeError) as error:
        raise ValueError(f"run.json's step_plan is {texts[1]!r}, which is none of this version.") from error
    if remembered is not None and search.keeps(remembered, began):
        plan = remembered
        _say(f"{search.words(plan)}, as {folder / fitted_before.FILE} has it.")
    elif memory.usable_bytes is None:
        plan = search.without_measure(began)
        unknown = f"how much memory a {memory.device} of {memory.hardware} has is not known"
        _say(f"{search.words(plan)}: {unknown}{search.other_than(plan, began)}.")
    else:
        plan = search.run(began, must_fit=must_fit)
    if folder is not None and jax.process_index() == 0:
        fitted_before.write(folder, facts, dataclasses.asdict(plan))
    return search.trainer_of(plan)


@dataclasses.dataclass(frozen=True)
class _Trial:
    """A step that was compiled; `temporary_bytes` are at least so many, None where the compiler's refusal has no figures."""

    fits: bool
    needs: str
    peak_bytes: int | None
    temporary_bytes: int | None


class _Search:
    """Compiles steps by one plan after the other until one fits.

    Attributes:
      state, batch: shapes with their places.
    """

    def __init__(
        self,
        trainer: Trainer,
        state: FlaxOptimTrainState,
        batch: Mapping[str, jax.ShapeDtypeStruct],
        model: base_model.BaseModel,
        partitioner: PjitPartitioner,
        memory: DeviceMemory,
    ) -> None:
        self._trainer, self._memory = trainer, memory
        self.state, self.batch = state, batch
        self._platform = _platform(partitioner)
        self._usable = memory.usable_bytes
        if self._usable is not None and self._platform != "cpu":
            self._usable = int(_USED_OF_ACCELERATORS * self._usable)
        self._argument_bytes, parameter_bytes = (
            step_memory.bytes_of_one_device(tree, jax.tree.map(lambda leaf: leaf.sharding, tree))
            for tree in ((state, batch), state.params)
        )
        all_bytes = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state.params))
        # None: as the config says.
        self._layers: tuple[LayerPlan | None, ...] = open_plans(
            _config(model), self._platform, splits_parameters=parameter_bytes < all_bytes
        ) or (None,)
        self._rows = next(iter(batch.values())).shape[0] // partitioner.data_mesh_size
        self._row_tokens = sum(
            rows.shape[1] for name, rows in batch.items() if name.endswith("_input_tokens")
        )
        self._is_auto = trainer.num_microbatches == AUTO
        self._numbers = (
            [number for number in range(1, self._rows + 1) if self._rows % number == 0]
            if self._is_auto
            else [trainer.num_microbatches or 1]
        )

    def trainer_of(self, plan: StepPlan) -> Trainer:
        """With what was compiled of it, if that was the last plan to be asked for."""
        trainer = self._trainer
        if (trainer.num_microbatches, trainer.layers) != (plan.num_microbatches, plan.layers):
            self._trainer = trainer.with_microbatches(plan.num_microbatches, plan.layers)
        return self._trainer

    def check(self, plan: Any) -> None:
        """Checks that it is one of those that are looked through, as JSON has it.

        Raises:
          ValueError, KeyError, TypeError: if it is none.
        """
        read = StepPlan.from_json(plan)
        number, layers = read.num_microbatches, read.layers
        # A plan without layers is what was taken where nobody knew of the memory.
        if type(number) is not int or number not in self._numbers or layers not in (None, *self._layers):
            raise ValueError(f"plan is {plan!r}")

    def keeps(self, plan: StepPlan, began: StepPlan | None) -> bool:
        """Whether a run that began with a plan goes on by this one as it was."""
        if began is None:
            return True
        same_layers = began.layers not in self._layers or began.layers == plan.layers
        return began.num_microbatches == plan.num_microbatches and same_layers

    def words(self, plan: StepPlan) -> str:
        """The plan, and what its number means."""
        rows = self._rows // plan.num_microbatches
        number = f"num_microbatches = {plan.num_microbatches} ({rows} row{'s' if rows > 1 else ''} at once a device)"
        return number if plan.layers is None else f"{number}, {plan.layers}"

    def without_measure(self, began: StepPlan | None) -> StepPlan:
        """What a run began with, as far as it can be; else all at once, and the layers as the config says."""
        if began is None:
            return StepPlan(self._numbers[0])
        number = began.num_microbatches if began.num_microbatches in self._numbers else self._numbers[0]
        return StepPlan(number, began.layers if began.layers in self._layers else None)

    def run(self, began: StepPlan | None, *, must_fit: bool) -> StepPlan:
        """The plan that fits; says why."""
        if self._argument_bytes > self._usable and must_fit:
            raise ValueError(
                step_memory.does_not_fit(
                    self._memory,
                    f"{gib(self._argument_bytes)} GiB for the state and the batch alone",
                    more_parts=False,
                )
            )
        trials: list[tuple[StepPlan, _Trial]] = []
        for plan in self._plans(began, trials):
            trials.append((plan, self._try(plan)))
            if trials[-1][1].fits:
                self._say_why(trials, began)
                return plan
        plan, trial = trials[-1]
        if not must_fit:
            return plan
        raise ValueError(
            step_memory.does_not_fit(
                self._memory,
                trial.needs,
                however=f" even in {plan.num_microbatches} microbatches of one row a device"
                if self._is_auto
                else "",
                more_parts=not self._is_auto,
                keep_less=plan.layers is None,
            )
        )

    def _plans(self, began: StepPlan | None, trials: Sequence[tuple[StepPlan, _Trial]]) -> Iterator[StepPlan]:
        """What to try next, going by what the trials so far have shown, which grow from one to the next."""
        numbers = self._numbers
        if began is not None and began.num_microbatches in numbers:
            first = self._layers.index(began.layers) if began.layers in self._layers else 0
            for layers in self._layers[first:]:
                yield StepPlan(began.num_microbatches, layers)
            numbers = [number for number in numbers if number > began.num_microbatches]
        for layers in self._layers:
            is_last = layers == self._layers[-1]
            left = numbers if is_last else [number for number in numbers if self._is_worth(number)]
            while left:
                yield StepPlan(left[0], layers)
                left = self._left(left[1:], *trials[-1], is_last=is_last)

    def _is_worth(self, number: int) -> bool:
        """Whether a microbatch has enough tokens for layers that need more memory."""
        return number == self._numbers[0] or self._rows // number * self._row_tokens >= _FEWEST_TOKENS

    def _left(self, later: Sequence[int], plan: StepPlan, trial: _Trial, *, is_last: bool) -> Sequence[int]:
        """Of the numbers above a trial's, those from the smallest on that could fit; else the last, whose figures then end the search."""
        if trial.temporary_bytes is None:
            return later
        left = self._usable - self._argument_bytes
        all_temporary = trial.temporary_bytes * plan.num_microbatches
        could_fit = [number for number in later if _LEAST_OF_A_SHARE * all_temporary <= left * number]
        return could_fit or (later[-1:] if is_last else [])

    def _try(self, plan: StepPlan) -> _Trial:
        """The worst that a process finds of it."""
        found = exchange.results_of_all(lambda: dataclasses.astuple(self._try_here(plan)))
        return max(
            (_Trial(*trial) for trial in found), key=lambda trial: (not trial.fits, trial.peak_bytes or 0)
        )

    def _try_here(self, plan: StepPlan) -> _Trial:
        try:
            compiled = step_memory.compile_step(
                self.trainer_of(plan).train_step.lower(self.state, self.batch)
            )
        except ProgramTooLarge as refusal:
            temporary = refusal.temporary_bytes
            if refusal.all_bytes is not None:
                temporary = max(refusal.all_bytes - self._argument_bytes, 0)
            return _Trial(False, refusal.needs, None, temporary)
        found = step_memory.memory_of(compiled, self._platform)
        peak = found["peak_bytes"]
        return _Trial(peak <= self._usable, f"{gib(peak)} GiB", peak, found["temporary_bytes"])

    def _say_why(self, trials: Sequence[tuple[StepPlan, _Trial]], began: StepPlan | None) -> None:
        plan, found = trials[-1]
        source = f" ({self._memory.source})" if self._memory.source else ""
        line = self.words(plan)
        if began is not None and began in (plan, StepPlan(plan.num_microbatches)):
            line += ", with which the run began"
        line += f": {gib(found.peak_bytes)} of {gib(self._memory.usable_bytes)} GiB{source}"
        if len(trials) > 1:
            other, refused = trials[-2]
            differs = [] if other.num_microbatches == plan.num_microbatches else [str(other.num_microbatches)]
            differs += [] if other.layers == plan.layers else [str(other.layers)]
            line += f"; {' with '.join(differs)} would need {refused.needs.removesuffix(' GiB')}"
        _say(f"{line}{self.other_than(plan, began)}.")

    def other_than(self, plan: StepPlan, began: StepPlan | None) -> str:
        """What is to be said where a run goes on by another plan; else ''."""
        if began is None or began in (plan, StepPlan(plan.num_microbatches)):
            return ""
        number = began.num_microbatches
        if number == plan.num_microbatches:
            return f"; the run began with {began.layers}, so its sums are rounded otherwise from here on"
        reason = f", which do not split {self._rows} rows a device" if self._rows % number else ""
        if number in self._numbers:
            reason = ", which do not fit"
        return f"; the run began with {number}{reason}: its dropout is another from here on"


def _config(model: base_model.BaseModel) -> Any:
    return getattr(getattr(model, "module", None), "config", None)


def _platform(partitioner: PjitPartitioner) -> str:
    return partitioner.mesh.devices.flat[0].platform


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
