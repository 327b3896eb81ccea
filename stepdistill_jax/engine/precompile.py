"""The training step compiled for hardware that need not be there, and what it will need of it."""

import copy
import json
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
from stepdistill_jax.engine.hardware import step_memory
from stepdistill_jax.engine.hardware.step_costs import fused_kernels, matmul_flops, traffic
from stepdistill_jax.engine.hardware.step_memory import ProgramTooLarge, gib
from stepdistill_jax.engine.hardware.step_report import StepReport
from stepdistill_jax.engine.hardware.topologies import GPUS_PER_HOST, Chip, Topology, devices_of
from stepdistill_jax.engine.model import base_model
from stepdistill_jax.engine.optim.train_state import FlaxOptimTrainState
from stepdistill_jax.engine.partition.partitioning import PjitPartitioner
from stepdistill_jax.engine.step import fitting
from stepdistill_jax.engine.step.fitting import check_microbatches, placed
from stepdistill_jax.engine.step.initialize import abstract_train_state, num_parameters
from stepdistill_jax.engine.step.model_flops import model_flops
from stepdistill_jax.engine.step.trainer import Trainer

# Of `train`, as its gin files bind it.
_SHARED_WITH_TRAIN = (
    "model", "train_dataset_cfg", "partitioner", "trainer_cls", "model_dir", "random_seed", "use_hardware_rng",
)  # fmt: skip


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
      trainer_cls: `train`'s; None is T5X's: a constant learning rate, no microbatches. num_microbatches 'auto', and layers that are
        left to the engine, are found for the topology, and not remembered.
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
    hardware = topology or _attached(partitioner)
    memory = step_memory.described(topology) if topology else step_memory.attached(partitioner.mesh)

    begin = time.monotonic()
    trainer = fitting.resolve(
        trainer, state, batch, model=model, partitioner=partitioner, memory=memory, must_fit=False
    )
    executed_flops = matmul_flops(trainer.train_step.trace(state, batch).jaxpr)
    lowered = trainer.train_step.lower(state, batch)
    try:
        compiled = step_memory.compile_step(lowered)
    except ProgramTooLarge as refusal:
        message = step_memory.does_not_fit(memory, refusal.needs, there_bytes=refusal.there_bytes)
        raise ValueError(message) from refusal
    compile_seconds = time.monotonic() - begin
    parameter_bytes, state_bytes = (
        step_memory.bytes_of_one_device(tree, partitioner.shardings(specs))
        for tree, specs in ((state.params, axes.params), (state, axes))
    )
    report = StepReport(
        topology=hardware,
        mesh=dict(partitioner.mesh.shape),
        batch={name: rows.shape for name, rows in batch.items()},
        num_microbatches=trainer.num_microbatches or 1,
        layers=None if trainer.layers is None else str(trainer.layers),
        num_parameters=num_parameters(state),
        parameter_bytes=parameter_bytes,
        optimizer_bytes=state_bytes - parameter_bytes,
        **step_memory.memory_of(compiled, hardware.platform),
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
        raise ValueError(step_memory.does_not_fit(memory, f"{gib(report.peak_bytes)} GiB"))
    return report


def abstract_step(
    model: base_model.BaseTransformerModel,
    cfg: DatasetConfig,
    partitioner: PjitPartitioner,
    trainer_cls: Callable[..., Trainer],
    random_seed: int | None,
) -> tuple[Trainer, FlaxOptimTrainState, dict[str, jax.ShapeDtypeStruct]]:
    """(trainer, state, batch) of a training step that can be traced; nothing is computed or allocated, and no data is read.

    Of num_microbatches 'auto' the trainer has no number yet (`fitting.resolve`).

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
    batch = {name: jax.ShapeDtypeStruct(shape, types[name]) for name, shape in shapes.items()}
    return trainer, *placed(state, batch, partitioner)


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
