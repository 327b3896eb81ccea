"""How quickly the training stream starts, seeks and makes batches, and how much of them is padding.

    python bench/input_pipeline.py [MIXTURE [INPUTS TARGETS BATCH_SIZE]] [--decoder_only] [--data_dir DIR]

`--decoder_only` makes rows of inputs and targets together, as a language model reads them. Opens the mixture twice with a cache of token ids that is empty at first; then prints batches a second, packed, unpacked and
unpacked in length buckets, and what it takes to find the batch of step 10 and of step 10,000.
"""

import argparse
import os
import tempfile
import time

from stepdistill_jax.engine.t5x_names import alias

alias.install()

from stepdistill_jax.engine.data.dataset_config import DatasetConfig, get_dataset
from stepdistill_jax.engine.data.train_stream import padding_fractions
from stepdistill_jax.launching import task_modules
from stepdistill_jax.student.features import StepByStepDecoderFeatureConverter, StepByStepFeatureConverter

NUM_BATCHES = 50


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("mixture", nargs="?", default="svamp_step_by_step")
    parser.add_argument(
        "sizes", nargs="*", type=int, default=[192, 128, 32], metavar="INPUTS TARGETS BATCH_SIZE"
    )
    parser.add_argument("--decoder_only", action="store_true")
    parser.add_argument("--data_dir")
    args = parser.parse_args()
    inputs, targets, batch_size = args.sizes
    converter_cls = StepByStepDecoderFeatureConverter if args.decoder_only else StepByStepFeatureConverter
    if args.data_dir:
        os.environ["STEPDISTILL_DATA_DIR"] = args.data_dir
    task_modules.load_tasks()

    def open_stream(**settings):
        cfg = DatasetConfig(
            mixture_or_task_name=args.mixture,
            task_feature_lengths={"inputs": inputs, "targets": targets},
            split="train",
            batch_size=batch_size,
            shuffle=True,
            seed=0,
            **{"pack": True, **settings},
        )
        return get_dataset(cfg, 0, 1, converter_cls)

    print(f"{args.mixture}, {batch_size} rows of {inputs} and {targets} tokens")
    with tempfile.TemporaryDirectory() as cache:
        os.environ["STEPDISTILL_CACHE_DIR"] = cache
        first, second = (_seconds(lambda: next(open_stream().batches())) for _ in range(2))
        print(
            f"first batch: {first:.2f} s the first time, {second:.2f} s the second, {first / second:.0f} times"
        )
        for name, settings in {
            "packed": {},
            "unpacked": {"pack": False},
            "unpacked, 4 length buckets": {"pack": False, "length_buckets": 4},
        }.items():
            rate, padding = _rate_and_padding(open_stream(**settings))
            print(
                f"{name}: {rate:.0f} batches/s, padding "
                + ", ".join(f"{k} {v:.1%}" for k, v in padding.items())
            )
        for step in (10, 10_000):
            stream = open_stream()
            sought = _seconds(lambda stream=stream, step=step: stream.first_draw(step))
            draw = stream.first_draw(step)
            read = _seconds(lambda draw=draw: next(open_stream().batches(draw)))
            print(
                f"step {step}: found by lengths alone in {sought:.2f} s; with its saved position, batch in {read:.2f} s"
            )


def _seconds(work) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _rate_and_padding(stream) -> tuple[float, dict[str, float]]:
    batches, totals = stream.batches(), {}
    next(batches)
    began = time.perf_counter()
    for _ in range(NUM_BATCHES):
        next(batches)
        for name, counts in batches.token_counts.items():
            earlier = totals.get(name, (0, 0))
            totals[name] = tuple(sum(pair) for pair in zip(earlier, counts, strict=True))
    return NUM_BATCHES / (time.perf_counter() - began), padding_fractions(totals)


if __name__ == "__main__":
    main()
