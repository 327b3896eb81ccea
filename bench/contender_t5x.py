"""T5X itself: its Trainer, partitioner and inference. Runs where its source tree is importable; imports nothing of ours."""

import itertools
import tempfile

import batches
import contender
import jax
import seqio
import tensorflow as tf
from t5x import adafactor, decoding, models, partitioning, trainer, utils
from t5x.examples.t5 import network


class T5X(contender.Contender):
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
            module=network.Transformer(
                network.T5Config(
                    **sizes,
                    num_encoder_layers=num_layers,
                    num_decoder_layers=num_layers,
                    mlp_activations=("gelu", "linear"),
                    dropout_rate=contender.DROPOUT_RATE,
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
        self._partitioner = partitioning.PjitPartitioner(num_partitions=1)
        initializer = utils.TrainStateInitializer(
            optimizer_def=self._model.optimizer_def,
            init_fn=self._model.get_initial_variables,
            input_shapes={name: rows.shape for name, rows in made[0].items()},
            input_types={name: rows.dtype for name, rows in made[0].items()},
            partitioner=self._partitioner,
        )
        self._axes = initializer.train_state_axes
        self._trainer = trainer.Trainer(
            self._model,
            train_state=initializer.from_scratch(jax.random.PRNGKey(0)),
            partitioner=self._partitioner,
            eval_names=[],
            summary_dir=tempfile.mkdtemp(),
            train_state_axes=self._axes,
            rng=jax.random.PRNGKey(1),
            learning_rate_fn=lambda step: contender.LEARNING_RATE,
            num_microbatches=None,
        )
        self._trainer.compile_train(made[0])
        self._infer = None
        self._args, self._labels = args, examples["label"][: args.num_decoded]

    def train(self, num_steps: int) -> int:
        steps = list(itertools.islice(self._batches, num_steps))
        self._trainer.train(iter(steps), num_steps).result()
        jax.block_until_ready(self._trainer.train_state)
        return sum(batches.num_tokens(batch) for batch in steps)

    def decode(self) -> int:
        if self._infer is None:
            self._infer = utils.get_infer_fn(
                infer_step=lambda params, batch, rng=None: self._model.predict_batch(params, batch),
                batch_size=self._args.decode_batch,
                train_state_axes=self._axes,
                partitioner=self._partitioner,
            )
        rows = batches.padded(self._labels, batches.longest(self._labels))
        dataset = tf.data.Dataset.from_tensor_slices(rows).enumerate()
        return len(self._infer(dataset, self._trainer.train_state))


if __name__ == "__main__":
    contender.serve(T5X(contender.arguments()))
