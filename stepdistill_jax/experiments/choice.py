"""Which checkpoint of a run is used: the one that is best on the validation split; the test split has no say."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def metrics_rows(run: Path) -> list[dict[str, Any]]:
    """The objects of RUN/metrics.jsonl."""
    return [json.loads(line) for line in (run / "metrics.jsonl").read_bytes().splitlines()]


def best_on_validation(rows: Sequence[Mapping[str, Any]], *, split: str = "validation") -> dict[str, Any]:
    """The row of the best decoded accuracy on `split`; of equals the earliest.

    Raises:
      ValueError: if no row has one.
    """
    scored = [row for row in rows if row.get("split") == split and "num_correct" in row]
    if not scored:
        raise ValueError(f"No accuracy on '{split}' in metrics.jsonl, so no checkpoint can be chosen by it.")
    return dict(max(scored, key=lambda row: (row["num_correct"] / max(row["num_examples"], 1), -row["step"])))


def score_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """num_correct, num_examples and accuracy (percent) of a row of metrics."""
    return {name: row[name] for name in ("num_correct", "num_examples", "accuracy")}
