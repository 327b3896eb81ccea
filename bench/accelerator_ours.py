"""Our engine on one device, as bench/accelerator.py measures it. Neither this nor what it imports needs TensorFlow or SeqIO."""

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import accelerator_kernels
import accelerator_step
import batches
import contender
import jax
import numpy as np
import optax
from accelerator_step import NUM_PROFILED_STEPS
from jax.sharding import PartitionSpec

from stepdistill_jax.engine.decode import decoding
from stepdistill_jax.engine.hardware import step_memory
from stepdistill_jax.engine.model import models, network
from stepdistill_jax.engine.model.attention import choice
from stepdistill_jax.engine.optim import adafactor
from stepdistill_jax.engine.optim.train_state import FlaxOptimTrainState
from stepdistill_jax.engine.partition import partitioning
from stepdistill_jax.engine.step import fitting, trainer
from stepdistill_jax.engine.step.initialize import abstract_train_state


@dataclasses.dataclass(frozen=True)
class Ids:
    """A vocabulary of ids alone. Its end is none of them, so that each row is decoded to its full length."""

    vocab_size: int
    eos_id: int = -1


def t5_config(
    size: str, *, dropout_rate: float = 0.0, dtype: str = "bfloat16", **changes: Any
) -> network.T5Config:
    """Of a T5 v1.1 of `contender.SIZES`.

    Raises:
      ValueError: if the engine refuses it.
    """
    sizes = dict(contender.SIZES[size])
    num_layers = sizes.pop("num_layers")
    return network.T5Config(
        **sizes,
        num_encoder_layers=num_layers,
        num_decoder_layers=num_layers,
        mlp_activations=("gelu", "linear"),
        dropout_rate=dropout_rate,
        dtype=dtype,
        **changes,
    )


def t5_model(config: network.T5Config, **changes: Any) -> models.EncoderDecoderModel:
    """Trained as gin/dsbs_t5_base.gin has it, but for the loss's weights of the two tasks.

    Raises:
      ValueError: if the engine refuses it.
    """
    vocabulary = Ids(config.vocab_size)
    return models.EncoderDecoderModel(
        network.Transformer(config),
        vocabulary,
        vocabulary,
        adafactor.Adafactor(logical_factor_rules=adafactor.standard_logical_factor_rules()),
        decoding.temperature_sample,
        z_loss=contender.Z_LOSS,
        loss_normalizing_factor="NUM_REAL_TARGET_TOKENS",
        **changes,
    )


class Engine(accelerator_step.Contender):
    """The Trainer's step, compiled ahead of time from shapes alone."""

    def prepare(self) -> float:
        settings = self.settings
        self.take_packed_batches()
        self._config = t5_config(
            settings.size, dropout_rate=settings.dropout_rate, dtype=settings.dtype, **settings.network
        )
        model = t5_model(self._config, **settings.model)
        shapes, types = _shapes_and_types(self.batches[0])
        self._partitioner = partitioning.PjitPartitioner(num_partitions=1)
        self._partitioner.use_devices(jax.devices()[:1])
        state = abstract_train_state(model, shapes, types)
        axes = self._partitioner.get_mesh_axes(state)
        given = trainer.Trainer(
            model,
            axes,
            self._partitioner,
            jax.random.key(1),
            optax.constant_schedule(contender.LEARNING_RATE),
            num_microbatches=settings.num_microbatches,
        )
        state, batch = fitting.placed(state, _structs(shapes, types), self._partitioner)
        memory = step_memory.attached(self._partitioner.mesh)
        begin = time.perf_counter()
        found = fitting.resolve(
            given, state, batch, model=model, partitioner=self._partitioner, memory=memory
        )
        self._layers = found.layers
        self._step = self._partitioner.compile(found.train_step, state, batch)
        compile_seconds = time.perf_counter() - begin
        self._first_state = self._compile_first_state(model, shapes, types, axes)
        if settings.labels:
            self._rows = accelerator_step.label_rows(settings)
            self._predict = self._compile_prediction(model, state.params, axes.params)
        return compile_seconds

    def _compile_first_state(self, model, shapes, types, axes) -> Any:
        def create(rng):
            variables = model.get_initial_variables(rng, shapes, types)
            return FlaxOptimTrainState.create(model.optimizer_def, variables)

        made = self._partitioner.partition(create, in_axis_resources=None, out_axis_resources=axes)
        return self._partitioner.compile(made, jax.random.key(0))

    def _compile_prediction(self, model, params, axes) -> Any:
        predict = self._partitioner.partition(
            lambda params, batch: model.predict_batch(params, batch),
            in_axis_resources=(axes, self._partitioner.data_partition_spec),
            out_axis_resources=PartitionSpec(),
        )
        shapes, types = _shapes_and_types(self._some_rows(0))
        return self._partitioner.compile(predict, params, _structs(shapes, types))

    def _some_rows(self, start: int) -> batches.Batch:
        return {name: rows[start : start + self.settings.label_batch] for name, rows in self._rows.items()}

    def start(self) -> None:
        self._state = self._first_state(jax.random.key(0))

    def run(self, batches: Sequence[batches.Batch]) -> None:
        for batch in batches:
            self._state, self._metrics, _ = self._step(self._state, self._partitioner.global_batch(batch))

    def wait(self) -> None:
        jax.block_until_ready((self._state, self._metrics))

    def loss(self) -> float:
        return float(self._metrics["loss"].compute())

    def decode(self, start: int) -> int:
        rows = self._partitioner.global_batch(self._some_rows(start))
        return len(np.asarray(self._predict(self._state.params, rows)))

    def device(self) -> tuple[str, int | None]:
        return device_and_peak_bytes(jax.devices()[0])

    def versions(self) -> str:
        return f"jax {jax.__version__}"

    def notes(self) -> list[str]:
        notes = [] if self._layers is None else [str(self._layers)]
        if self._config.attention != "auto":
            return notes
        taken, why = choice.explain(
            dtype=self._config.dtype,
            head_dim=self._config.head_dim,
            float32_logits=self._config.float32_attention_logits,
        )
        return [*notes, f"auto took {taken}: {why}"]

    def profile(self, folder: str) -> dict[str, Any]:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with jax.profiler.trace(folder):
            self.run([self.batches[number % len(self.batches)] for number in range(NUM_PROFILED_STEPS)])
            self.wait()
        return accelerator_kernels.table(folder, NUM_PROFILED_STEPS)


def device_and_peak_bytes(device: jax.Device) -> tuple[str, int | None]:
    """(its kind, the most bytes that this process had in use there; None where JAX does not count them, as on a CPU)."""
    return device.device_kind, (device.memory_stats() or {}).get("peak_bytes_in_use")


def _shapes_and_types(batch: batches.Batch) -> tuple[dict[str, tuple[int, ...]], dict[str, np.dtype]]:
    return (
        {name: rows.shape for name, rows in batch.items()},
        {name: rows.dtype for name, rows in batch.items()},
    )


def _structs(shapes: dict[str, tuple[int, ...]], types: dict[str, np.dtype]) -> dict[str, Any]:
    return {name: jax.ShapeDtypeStruct(shape, types[name]) for name, shape in shapes.items()}


if __name__ == "__main__":
    accelerator_step.serve(Engine)
