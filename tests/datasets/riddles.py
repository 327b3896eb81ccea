"""The riddles that the tests of datasets are made of."""

import json
from pathlib import Path

from stepdistill_jax import datasets

RIDDLES = [
    {"question": f"What has {n} legs?", "answer": ("a stool", "a table")[n % 2], "why": f"It stands on {n}."}
    for n in range(3, 15)
]


def to_example(row):
    return datasets.Fields(row["question"], row["answer"], ("a stool", "a table"), row.get("why", ""))


def write_jsonl(path: Path, rows: list) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
