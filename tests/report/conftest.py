"""Run folders as training leaves them, with made-up numbers."""

import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

NUM_TEST_ROWS = 200


def write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def make_run(
    folder: Path,
    *,
    method: str = "step_by_step",
    dataset: str = "svamp",
    seed: int = 0,
    num_correct: int | None = 120,
    steps: int = 400,
    rationales: bool = True,
) -> Path:
    """A whole run folder: metrics, timing, settings, config, and test predictions when `num_correct` is given."""
    task = f"{dataset}_label"
    metrics: list[dict[str, Any]] = []
    noise = random.Random(seed)
    for step in range(20, steps + 1, 20):
        label_loss = 3.0 * math.exp(-step / 150) + 0.1 + 0.05 * noise.random()
        row = {
            "step": step,
            "split": "train",
            "loss": label_loss,
            "label_loss": label_loss,
            "rationale_loss": None,
        }
        row |= {"label_accuracy": 1 - math.exp(-step / 200), "learning_rate": 1e-3, "label_tokens": 512}
        if rationales:
            row["rationale_loss"] = label_loss + 0.8
        metrics.append(row)
        if step % 100 == 0:
            teacher_forced = {"step": step, "split": "validation", "task": task, "loss": label_loss + 0.2}
            metrics.append(
                teacher_forced | {"label_loss": label_loss + 0.2, "label_accuracy": 0.5 * step / steps}
            )
            correct = int(60 * step / steps)
            decoded = {"step": step, "split": "validation", "task": task, "accuracy": 100 * correct / 80}
            metrics.append(decoded | {"num_correct": correct, "num_examples": 80})
    write_lines(folder / "metrics.jsonl", metrics)
    timing = [
        {"step": s, "steps_per_second": 2.0, "tokens_per_second": 9000.0 + s, "seconds": s / 2}
        for s in (100, 200, 400)
    ]
    write_lines(folder / "timing.jsonl", timing)
    settings = {
        "command": ["python", "t5x/train.py", "--gin_file=gin/demo.gin"],
        "commit": "0123456789abcdef0123456789abcdef01234567",
        "versions": {"jax": "0.10.0", "flax": "0.12.0"},
        "seed": seed,
        "mixture_or_task_name": f"{dataset}_step_by_step" if rationales else task,
        "num_parameters": 1_234_567,
        "devices": "1 x cpu",
        "python": "3.11.7",
        "started": "2026-01-01T10:00:00",
        "method": method,
        "dataset": dataset,
    }
    (folder / "run.json").write_text(json.dumps(settings))
    (folder / "config.gin").write_text("train.total_steps = 400\nStepByStepModel.rationale_weight = 1.0\n")
    if num_correct is not None:
        accuracy = 100 * num_correct / NUM_TEST_ROWS
        row = {"step": steps, "split": "test", "task": task, "accuracy": accuracy, "num_correct": num_correct}
        write_lines(folder / "test_eval" / "metrics.jsonl", [row | {"num_examples": NUM_TEST_ROWS}])
        right = set(random.Random(seed).sample(range(NUM_TEST_ROWS), num_correct))
        write_lines(
            folder / "predictions" / f"{task}-test-{steps}.jsonl",
            [predicted(dataset, i, i in right) for i in range(NUM_TEST_ROWS)],
        )
    return folder


def predicted(dataset: str, row: int, correct: bool) -> dict[str, Any]:
    inputs = f"[label] Ann has {row + 3} apples. She gives {row % 3 + 1} of them to Ben. How many apples has Ann left?"
    target = f"( {row + 3} - {row % 3 + 1} )"
    prediction = target if correct else f"( {row + 3} + {row % 3 + 1} )"
    texts = {"inputs": inputs, "target": target, "prediction": prediction}
    return {"example_id": f"{dataset}/test/{row}", **texts, "correct": correct}


@pytest.fixture
def run_folder(tmp_path: Path) -> Callable[..., Path]:
    """Makes tmp_path/NAME into a run folder; keywords as in `make_run`."""
    return lambda name, **settings: make_run(tmp_path / name, **settings)
