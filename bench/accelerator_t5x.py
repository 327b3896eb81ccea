"""T5X on one device, as bench/accelerator.py measures it: its own Trainer, scalable_t5 in a loop with remat_policy 'minimal'.

Runs where its source tree is importable; imports nothing of ours.
"""

import time
from collections.abc import Sequence

import accelerator_step
import batches
import contender
import jax
import numpy as np
import seqio
from t5x import adafactor, decoding, models, partitioning, trainer, utils
from t5x.examples.scalable_t5 import network


def give_devices_bounds() -> None:
    """Lets T5X start on a GPU: it takes any device with coordinates for a TPU and asks for its core, which GPUs do not have.

    Theirs are then what T5X gives to devices without coordinates. Nothing else reads them where one device is the mesh.
    """
    if jax.devices()[0].platform != "tpu":
        partitioning.bounds_from_last_device = lambda device: (
            jax.process_count(),
            jax.local_device_count(),
        )
        partitioning.get_coords = lambda device: (
            device.process_index,
            device.id % jax.local_device_count(),
        )


class T5X(accelerator_step.Contender):
    def prepare(self) -> float:
        settings = self.settings
        give_devices_bounds()
        self.take_packed_batches()
        sizes = dict(contender.SIZES[settings.size])
        num_layers = sizes.pop("num_layers")
        vocabulary = seqio.PassThroughVocabulary(size=sizes["vocab_size"], eos_id=-1)  # rows have no end
        model = models.EncoderDecoderModel(
            module=network.Transformer(
                network.T5Config(
                    **sizes,
                    num_encoder_layers=num_layers,
                    num_decoder_layers=num_layers,
                    mlp_activations=("gelu", "linear"),
                    dropout_rate=settings.dropout_rate,
                    dtype=settings.dtype,
                    remat_policy="minimal",
                    scan_layers=True,
                )
            ),
            input_vocabulary=vocabulary,
            output_vocabulary=vocabulary,
            optimizer_def=adafactor.Adafactor(
                decay_rate=0.8, step_offset=0, logical_factor_rules=adafactor.standard_logical_factor_rules()
            ),
            decode_fn=decoding.temperature_sample,
            z_loss=contender.Z_LOSS,
            loss_normalizing_factor="NUM_REAL_TARGET_TOKENS",
        )
        self._partitioner = partitioning.PjitPartitioner(
            num_partitions=1, logical_axis_rules=partitioning.standard_logical_axis_rules()
        )
        initializer = utils.TrainStateInitializer(
            optimizer_def=model.optimizer_def,
            init_fn=model.get_initial_variables,
            input_shapes={name: rows.shape for name, rows in self.batches[0].items()},
            input_types={name: rows.dtype for name, rows in self.batches[0].items()},
            partitioner=self._partitioner,
        )
        shapes, axes = initializer.global_train_state_shape, initializer.train_state_axes
        self._trainer = trainer.Trainer(
            model,
            train_state=shapes,
            partitioner=self._partitioner,
            eval_names=[],
            summary_dir=None,
            train_state_axes=axes,
            rng=jax.random.PRNGKey(1),
            learning_rate_fn=lambda step: contender.LEARNING_RATE,
            num_microbatches=None,
        )
        begin = time.perf_counter()
        # What `compile_train` does, and below `from_scratch`, which take the device's memory at once.
        self._trainer._compiled_train_step = self._partitioner.compile(
            self._trainer._partitioned_train_step, shapes, self.batches[0]
        )
        compile_seconds = time.perf_counter() - begin
        first_state = self._partitioner.partition(
            initializer._initialize_train_state, in_axis_resources=None, out_axis_resources=axes
        )
        self._first_state = self._partitioner.compile(first_state, jax.random.PRNGKey(0))
        if settings.labels:
            self._rows = accelerator_step.label_rows(settings)
            predict = self._partitioner.partition(
                lambda params, batch: model.predict_batch(params, batch),
                in_axis_resources=(axes.params, self._partitioner.data_partition_spec),
                out_axis_resources=None,
            )
            self._predict = self._partitioner.compile(predict, shapes.params, self._some_rows(0))
        return compile_seconds

    def _some_rows(self, start: int) -> batches.Batch:
        return {name: rows[start : start + self.settings.label_batch] for name, rows in self._rows.items()}

    def start(self) -> None:
        self._trainer.train_state = self._first_state(jax.random.PRNGKey(0))

    def run(self, batches: Sequence[batches.Batch]) -> None:
        self._metrics = self._trainer.train(iter(batches), len(batches))

    def wait(self) -> None:
        jax.block_until_ready(self._trainer.train_state)

    def loss(self) -> float:
        return float(self._metrics.result()["loss"].value)

    def decode(self, start: int) -> int:
        return len(np.asarray(self._predict(self._trainer.train_state.params, self._some_rows(start))))

    def device(self) -> tuple[str, int | None]:
        device = jax.devices()[0]
        return device.device_kind, (device.memory_stats() or {}).get("peak_bytes_in_use")

    def versions(self) -> str:
        return f"jax {jax.__version__}"


if __name__ == "__main__":
    accelerator_step.serve(T5X)
