"""The training step compiled for hardware that need not be there, and what it will need of it."""

import copy
import json
import math
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from stepdistill_jax.base.whole_files import write_atomically
from stepdistill_jax.engine.data.dataset_config import (
    DatasetConfig,
    full_feature_lengths,
    get_dataset,
    read_features,
)
from stepdistill_jax.engine.hardware.step_costs import fused_kernels, matmul_flops, traffic
from stepdistill_jax.engine.hardware.step_report import StepReport
from stepdistill_jax.engine.hardware.topologies import GIB, GPUS_PER_HOST, Chip, Topology, devices_of
from stepdistill_jax.engine.model import base_model
from stepdistill_jax.engine.optim.train_state import FlaxOptimTrainState
from stepdistill_jax.engine.partition.partitioning import PjitPartitioner
from stepdistill_jax.engine.step.initialize import abstract_train_state, num_parameters
from stepdistill_jax.engine.step.model_flops import model_flops
from stepdistill_jax.engine.step.trainer import Trainer, check_microbatches

# Of `train`, as its gin files bind it.
_SHARED_WITH_TRAIN = (
    "model", "train_dataset_cfg", "partitioner", "trainer_cls", "model_dir", "random_seed", "use_hardware_rng",
)  # fmt: skip
_MEND = (
    "split the parameters further (parameter_partitioning_dims = 2, more NUM_PARTITIONS), raise NUM_MICROBATCHES, keep "
    "less for the backward pass (network.T5Config.remat_policy = 'full'), or use more devices"
)
# How libtpu says that a program is too large: of all its memory, or, as 0.0.42 does, of temporaries that are too many alone.
_ALL_USED = re.compile(r"Used (?P<used>[\d.]+[KMG]) of (?P<there>[\d.]+[KMG])")
_PART_USED = re.compile(
    r"required for (?P<part>[\w ]+) \((?P<used>[\d.]+[KMG])\) exceeds available HBM \((?P<there>[\d.]+[KMG])\)"
)


def precompile(
    *,
    model: base_model.BaseTransformerModel,
    train_dataset_cfg: DatasetConfig,
    partitioner: PjitPartitioner,
    model_dir: str | None = None,
    random_seed: int | None = None,
    get_dataset_fn: Callable[..., Any] = get_dataset,
    verify_matching_vocabs_fn: Callable[..., None] | None = None,
    trainer_cls: Callable[..., Trainer] | None = None,
    use_hardware_rng: bool = False,
    topology: Topology | None = None,
) -> StepReport:
    """Compiles the step that `train` would run, reports on it, and says so if it does not fit. T5X's arguments.

    Args:
      model_dir: where to write precompile.json and the programs before and after compilation; None or '' writes nothing.
      random_seed: changes nothing but the numbers in the program.
      get_dataset_fn: taken for T5X's sake: shapes follow from the configuration, no data is read.
      verify_matching_vocabs_fn: called as (train_dataset_cfg, model) if given; it reads the vocabulary's file.
      trainer_cls: `train`'s; None is T5X's: a constant learning rate, no microbatches.
      topology: None takes the devices that the partitioner finds.

    Raises:
      ValueError: if settings do not go together, or the step needs more memory than a device has.
    """
    if use_hardware_rng:
        jax.config.update("jax_default_prng_impl", "rbg")
    if verify_matching_vocabs_fn is not None:
        verify_matching_vocabs_fn(train_dataset_cfg, model)
    if topology is not None:
        partitioner.use_devices(devices_of(topology))
    trainer_cls = trainer_cls or _constant_rate_trainer
    trainer, state, batch = abstract_step(model, train_dataset_cfg, partitioner, trainer_cls, random_seed)
    axes = partitioner.get_mesh_axes(state)

    begin = time.monotonic()
    executed_flops = matmul_flops(trainer.train_step.trace(state, batch).jaxpr)
    lowered = trainer.train_step.lower(state, batch)
    compiled = _compile(lowered, topology)
    compile_seconds = time.monotonic() - begin
    parameter_bytes, state_bytes = (
        _bytes_of_one_device(tree, partitioner.shardings(specs))
        for tree, specs in ((state.params, axes.params), (state, axes))
    )
    hardware = topology or _attached(partitioner)
    report = StepReport(
        topology=hardware,
        mesh=dict(partitioner.mesh.shape),
        batch={name: rows.shape for name, rows in batch.items()},
        num_microbatches=trainer.num_microbatches or 1,
        num_parameters=num_parameters(state),
        parameter_bytes=parameter_bytes,
        optimizer_bytes=state_bytes - parameter_bytes,
        **_memory(compiled.memory_analysis(), hardware.platform),
        model_flops=model_flops(model, state.params, batch),
        executed_flops=executed_flops,
        kernels=fused_kernels(compiled.as_text()),
        traffic=traffic(
            compiled.as_text(),
            num_devices=partitioner.mesh.size,
            devices_per_host=GPUS_PER_HOST
            if topology and topology.platform == "gpu"
            else partitioner.mesh.size,
        ),
        compile_seconds=compile_seconds,
    )
    if model_dir:
        _write(Path(model_dir), report, lowered, compiled)
    print(report)
    if not report.fits:
        raise ValueError(_does_not_fit(report.topology, f"{report.peak_bytes / GIB:.1f} GiB"))
    return report


def abstract_step(
    model: base_model.BaseTransformerModel,
    cfg: DatasetConfig,
    partitioner: PjitPartitioner,
    trainer_cls: Callable[..., Trainer],
    random_seed: int | None,
) -> tuple[Trainer, FlaxOptimTrainState, dict[str, jax.ShapeDtypeStruct]]:
    """(trainer, state, batch) of a training step that can be traced; nothing is computed or allocated, and no data is read.

    Raises:
      ValueError: if settings do not go together.
    """
    partitioner.get_data_layout(cfg.batch_size)
    shapes, types = batch_shapes(model, cfg)
    state = abstract_train_state(model, shapes, types)
    partitioner.check_divides(state, getattr(model.module, "config", None))
    trainer = trainer_cls(
        model=model,
        train_state_axes=partitioner.get_mesh_axes(state),
        partitioner=partitioner,
        rng=jax.random.key(random_seed or 0),
    )
    check_microbatches(cfg.batch_size, trainer.num_microbatches, partitioner.data_mesh_size)
    return trainer, state, {name: jax.ShapeDtypeStruct(shape, types[name]) for name, shape in shapes.items()}


def bindings_of_train(gin: Any) -> dict[str, Any]:
    """What gin binds of `train` and `precompile` also takes, made; nothing else of the run's configuration is.

    Raises:
      ValueError: if nothing is bound.
    """
    bound = gin.get_bindings("__main__.train", resolve_references=False)
    if "model" not in bound:
        raise ValueError(
            "No gin file binds train_script.train or train_script.precompile; give a run's, such as "
            "--gin_file=gin/dsbs_t5_base.gin."
        )
    # Copying a reference makes the object that it stands for.
    return {name: copy.deepcopy(bound[name]) for name in _SHARED_WITH_TRAIN if name in bound}


def batch_shapes(
    model: base_model.BaseTransformerModel, cfg: DatasetConfig
) -> tuple[dict[str, tuple[int, int]], dict[str, np.dtype]]:
    """Feature -> (rows, tokens) of the global batch, and its dtype, as the training stream will make it."""
    features = base_model.described_features(model, pack=cfg.pack)
    # A language model may also read targets alone: then its converter says what there is.
    if features is not None and "inputs" in (cfg.task_feature_lengths or ()):
        of_task = {name: base_model.parts(parts) for name, parts in features.items()}
        read = {feature for parts in of_task.values() for feature in parts}
        lengths = full_feature_lengths(cfg.task_feature_lengths, read | {"targets"}, cfg.mixture_or_task_name)
        shapes = {
            name: (cfg.batch_size, sum(lengths[part] for part in parts)) for name, parts in of_task.items()
        }
        return shapes, dict.fromkeys(features, np.dtype(np.int32))
    converter_cls = model.FEATURE_CONVERTER_CLS
    lengths = full_feature_lengths(
        cfg.task_feature_lengths,
        read_features(converter_cls, cfg.task_feature_lengths or ()),
        cfg.mixture_or_task_name,
    )
    of_model = converter_cls(pack=cfg.pack).get_model_feature_lengths(lengths)
    types = {name: spec.dtype for name, spec in converter_cls.MODEL_FEATURES.items()}
    if cfg.pack:
        types |= converter_cls.PACKING_FEATURE_DTYPES
    return (
        {name: (cfg.batch_size, length) for name, length in of_model.items()},
        {name: np.dtype(types[name].as_numpy_dtype) for name in of_model},
    )


def _constant_rate_trainer(**arguments: Any) -> Trainer:
    return Trainer(learning_rate_fn=lambda step: 1e-3, **arguments)


def _compile(lowered: Any, topology: Topology | None) -> Any:
    try:
        return lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error) or topology is None:
            raise
        raise ValueError(_refused(topology, str(error))) from error


def _refused(topology: Topology, message: str) -> str:
    """What the compiler's refusal comes to, with its figures if it gives any."""
    if part := _PART_USED.search(message):
        needs = f"{_gib(part['used'])} GiB for {part['part']} alone"
        return _does_not_fit(topology, needs, there=_gib(part["there"]))
    if used := _ALL_USED.search(message):
        return _does_not_fit(topology, f"{_gib(used['used'])} GiB", there=_gib(used["there"]))
    return _does_not_fit(topology, "more memory")


def _gib(text: str) -> str:
    """'512.0M' in GiB."""
    return f"{float(text[:-1]) / {'K': 2**20, 'M': 2**10, 'G': 1}[text[-1]]:.2f}"


def _does_not_fit(topology: Topology, needs: str, *, there: str | None = None) -> str:
    if there is None and topology.usable_bytes:
        there = f"{topology.usable_bytes / GIB:.1f}"
    usable = f" ({there} GiB can be used)" if there else ""
    return f"The step does not fit on {topology.name}: it needs {needs} on each {topology.chip.name}{usable}; {_MEND}."


def _memory(stats: Any, platform: str) -> dict[str, int]:
    """Temporary and peak bytes of one device.

    On TPUs XLA's own peak is the figure to trust: the sum counts what never lives at the same time. The GPU compiler gives
    none, and the CPU's leaves out what is temporary: there the sum is what will be allocated.
    """
    peak = stats.argument_size_in_bytes + stats.output_size_in_bytes - stats.alias_size_in_bytes
    peak += stats.temp_size_in_bytes
    if platform == "tpu":
        peak = getattr(stats, "peak_memory_in_bytes", 0) or peak
    peak += stats.generated_code_size_in_bytes
    return {"temporary_bytes": max(peak - stats.argument_size_in_bytes, 0), "peak_bytes": peak}


def _bytes_of_one_device(tree: Any, shardings: Any) -> int:
    return sum(
        math.prod(sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for leaf, sharding in zip(jax.tree.leaves(tree), jax.tree.leaves(shardings), strict=True)
    )


def _attached(partitioner: PjitPartitioner) -> Topology:
    """The devices that are there, of a kind whose numbers are not in the table."""
    device, count = partitioner.mesh.devices.flat[0], partitioner.mesh.size
    return Topology(
        "the devices here", device.platform, Chip(device.device_kind, 0, 0.0, 0.0), count, (count,)
    )


def _write(folder: Path, report: StepReport, lowered: Any, compiled: Any) -> None:
    """The report, and the programs under T5X's names."""
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "precompile.json", json.dumps(report.as_dict(), indent=2) + "\n")
    write_atomically(folder / "lowered_hlo_pre_optimization", lowered.as_text())
    write_atomically(folder / "lowered_hlo_post_optimization", compiled.as_text())
