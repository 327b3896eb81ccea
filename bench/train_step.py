"""Training and decoding speed of the tiny student on this machine, as ratios measured in turn in one run.

    python bench/train_step.py            (or `make bench`)

Compares packed rows with one example a row (non-padding tokens per second), and one microbatch with two. Each pair is timed in
turn, round by round, so that a machine whose speed drifts does not decide; medians and spreads are printed.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable

import jax
import numpy as np

from stepdistill_jax.engine import alias

alias.install()

import optax
import seqio

from stepdistill_jax import datasets, teacher
from stepdistill_jax.engine import adafactor, dataset_config, decoding, network, partitioning, trainer
from stepdistill_jax.engine.initialize import abstract_train_state, initial_train_state
from stepdistill_jax.student.model import StepByStepModel

LENGTHS = {"inputs": 128, "targets": 96, "task_ids": 96}
ROWS = 16


def make_model() -> StepByStepModel:
    """The student of gin/models/t5_1_1_tiny.gin."""
    config = network.T5Config(
        vocab_size=1024,
        emb_dim=128,
        num_heads=4,
        num_encoder_layers=3,
        num_decoder_layers=3,
        head_dim=32,
        mlp_dim=256,
        mlp_activations=("gelu", "linear"),
        dropout_rate=0.0,
    )
    words = datasets.embedded_vocabulary()
    return StepByStepModel(
        module=network.Transformer(config),
        input_vocabulary=words,
        output_vocabulary=words,
        optimizer_def=adafactor.Adafactor(),
        decode_fn=decoding.temperature_sample,
    )


def make_step(*, pack: bool, num_microbatches: int | None = None) -> Callable[[], int]:
    """A function that takes one training step and returns its number of non-padding tokens; compiled already."""
    model = make_model()
    partitioner = partitioning.PjitPartitioner(num_partitions=1)
    cfg = dataset_config.DatasetConfig(
        "wordproblems_step_by_step", LENGTHS, "train", ROWS, True, 0, pack=pack
    )
    stream = dataset_config.get_dataset(cfg, 0, 1, model.FEATURE_CONVERTER_CLS)
    rows = next(stream.batches())
    shapes = {name: values.shape for name, values in rows.items()}
    types = {name: values.dtype for name, values in rows.items()}
    axes = partitioner.get_mesh_axes(abstract_train_state(model, shapes, types))
    state = initial_train_state(model, jax.random.key(0), shapes, types, partitioner, axes)
    step = trainer.Trainer(
        model, axes, partitioner, jax.random.key(1), optax.constant_schedule(1e-3), num_microbatches
    ).train_step
    batch = partitioner.global_batch(rows)
    tokens = sum(int(np.count_nonzero(rows[n])) for n in ("encoder_input_tokens", "decoder_target_tokens"))

    def run() -> int:
        nonlocal state
        state, metrics, _ = step(state, batch)
        jax.block_until_ready(metrics)
        return tokens

    run()
    return run


def compare(
    name: str, first: Callable[[], int], second: Callable[[], int], *, rounds: int, steps: int
) -> None:
    """Prints the tokens per second of both and their ratio, round by round in turn."""
    rates: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for run, rate in zip((first, second), rates, strict=True):
            start = time.perf_counter()
            tokens = sum(run() for _ in range(steps))
            rate.append(tokens / (time.perf_counter() - start))
    ratios = [a / b for a, b in zip(*rates, strict=True)]
    print(
        f"{name}: {statistics.median(rates[0]):,.0f} against {statistics.median(rates[1]):,.0f} tokens/s; "
        f"ratio {statistics.median(ratios):.2f} (from {min(ratios):.2f} to {max(ratios):.2f} over {rounds} rounds)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=5, help="training steps of a round")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        seqio.set_tfds_data_dir_override(folder)
        datasets.load_tasks()
        datasets.prepare("wordproblems", data_dir=folder)
        teacher.teach("wordproblems", teacher="worked", data_dir=folder)
        packed, alone = make_step(pack=True), make_step(pack=False)
        compare("packed rows / one example a row", packed, alone, rounds=args.rounds, steps=args.steps)
        halves = make_step(pack=True, num_microbatches=2)
        compare("one batch / two microbatches", packed, halves, rounds=args.rounds, steps=args.steps)


if __name__ == "__main__":
    main()
