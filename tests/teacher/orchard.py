"""A dataset 'orchard' of as many rows as $ORCHARD_ROWS says; a module for STEPDISTILL_TASKS, so that processes know it too."""

import os

from stepdistill_jax import datasets


def rows(split):
    """Train has all numbers from 0, but for the last two, which are validation and test."""
    count = int(os.environ["ORCHARD_ROWS"])
    numbers = {"train": range(count - 2), "validation": [count - 2], "test": [count - 1]}
    return [{"n": n} for n in numbers[split]]


def to_example(row):
    return datasets.Fields(f"Mia has {row['n']} plums and gets 2 more. How many?", f"({row['n']} + 2)")


datasets.register(
    datasets.Dataset(
        name="orchard",
        to_example=to_example,
        rows=rows,
        metric="equation",
        completion=datasets.CompletionFormat("The answer is", "Q:", r"(\(.*\))"),
    )
)
