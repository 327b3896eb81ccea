"""Our engine: its Trainer, partitioner and inference, as train.py uses them."""

import itertools

import batches
import contender
import jax

from stepdistill_jax.engine.t5x_names import alias

alias.install()

import optax
import seqio
import tensorflow as tf

from stepdistill_jax.engine.decode import decoding
from stepdistill_jax.engine.evaluate import inference
from stepdistill_jax.engine.model import models, network
from stepdistill_jax.engine.optim import adafactor
from stepdistill_jax.engine.partition import partitioning
from stepdistill_jax.engine.step import trainer
from stepdistill_jax.engine.step.initialize import TrainStateInitializer


class Engine(contender.Contender):
    def __init__(self, args) -> None:
        examples = batches.load(args.data)
        made = batches.training_batches(
            examples,
            packed=args.rows == "packed",
            num_examples=args.num_examples,
            num_rows=args.num_rows,
        )
        self._batches = itertools.cycle(made)
        sizes = dict(contender.SIZES[args.size])
        num_layers = sizes.pop("num_layers")
        vocabulary = seqio.PassThroughVocabulary(size=sizes["vocab_size"], eos_id=1)
        self._model = models.EncoderDecoderModel(
            network.Transformer(
                network.T5Config(
                    **sizes,
                    num_encoder_layers=num_layers,
                    num_decoder_layers=num_layers,
                    mlp_activations=("gelu", "linear"),
                    dropout_rate=contender.DROPOUT_RATE,
                )
            ),
            vocabulary,
            vocabulary,
            adafactor.Adafactor(logical_factor_rules=adafactor.standard_logical_factor_rules()),
            decoding.temperature_sample,
            z_loss=contender.Z_LOSS,
            loss_normalizing_factor="NUM_REAL_TARGET_TOKENS",
        )
        self._partitioner = partitioning.PjitPartitioner(num_partitions=1)
        initializer = TrainStateInitializer(
            self._model.optimizer_def,
            self._model.get_initial_variables,
            {name: rows.shape for name, rows in made[0].items()},
            self._partitioner,
            {name: rows.dtype for name, rows in made[0].items()},
        )
        self._axes = initializer.train_state_axes
        self._state = initializer.from_scratch(jax.random.key(0))
        self._step = trainer.Trainer(
            self._model,
            self._axes,
            self._partitioner,
            jax.random.key(1),
            optax.constant_schedule(contender.LEARNING_RATE),
        ).train_step
        self._infer = None
        self._args, self._labels = args, examples["label"][: args.num_decoded]

    def train(self, num_steps: int) -> int:
        tokens = 0
        for batch in itertools.islice(self._batches, num_steps):
            self._state, metrics, _ = self._step(self._state, self._partitioner.global_batch(batch))
            tokens += batches.num_tokens(batch)
        jax.block_until_ready((self._state, metrics))
        return tokens

    def decode(self) -> int:
        if self._infer is None:
            self._infer = inference.get_infer_fn(
                lambda params, batch: self._model.predict_batch(params, batch),
                self._args.decode_batch,
                self._axes,
                self._partitioner,
            )
        rows = batches.padded(self._labels, batches.longest(self._labels))
        return len(self._infer(tf.data.Dataset.from_tensor_slices(rows).enumerate(), self._state))


if __name__ == "__main__":
    contender.serve(Engine(contender.arguments()))
