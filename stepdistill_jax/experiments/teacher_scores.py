"""Few-shot CoT: the accuracy of a teacher's own answers, from its records."""

import json
from pathlib import Path
from typing import Any

from stepdistill_jax import datasets
from stepdistill_jax.base.whole_files import write_atomically
from stepdistill_jax.datasets import record_io
from stepdistill_jax.teacher.answers import scoring


def score(dataset: datasets.Dataset, records: Path, split: str) -> dict[str, Any] | None:
    """num_correct, num_examples and accuracy (percent); None where the teacher was not asked, or nothing can be scored.

    Args:
      records: DATA/<dataset>/rationales/<teacher>.
    """
    if split not in record_io.verify(records)["counts"]:
        return None
    scored = scoring.score_records(dataset, record_io.read_records(records, split))
    if not scored.total:
        return None
    return {"num_correct": scored.correct, "num_examples": scored.total, "accuracy": scored.percent}


def write_predictions(dataset: datasets.Dataset, records: Path, path: Path) -> None:
    """The teacher's answers on the test split, in the form of an evaluation's predictions."""
    lines = [
        json.dumps(
            {
                "example_id": record["example_id"],
                "inputs": record["inputs"],
                "target": record["label"],
                "prediction": record["teacher_label"],
                "rationale": record["rationale"],
                "correct": scoring.score_records(dataset, [record]).correct == 1,
            },
            ensure_ascii=False,
        )
        for record in record_io.read_records(records, "test")
        if record["has_label"]
    ]
    write_atomically(path, "".join(line + "\n" for line in lines))
