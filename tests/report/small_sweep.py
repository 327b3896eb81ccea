"""Sweep folders as `stepdistill sweep` leaves them, with made-up numbers."""

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

NUM_ROWS = 60
PARAMETERS = {"tiny": 1_400_000, "tiny-longer": 1_400_000, "mini": 21_000_000}
# Chance of a right answer: method, with a bit for size and share.
SKILL = {
    "fine_tuning": 0.45,
    "step_by_step": 0.6,
    "rationale_then_label": 0.3,
    "task_distillation": 0.4,
    "few_shot_cot": 0.62,
}


def make_sweep(
    folder: Path,
    *,
    methods: Sequence[str] = ("fine_tuning", "step_by_step", "rationale_then_label", "few_shot_cot"),
    shares: Sequence[float] = (0.25, 1.0),
    sizes: Sequence[str] = ("tiny", "mini"),
    seeds: Sequence[int] = (0, 1),
    datasets: Sequence[str] = ("svamp",),
) -> Path:
    """SWEEP with one run for every combination; the teacher has one a dataset."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "experiment.toml").write_text('name = "small"\n')
    for dataset in datasets:
        for method in methods:
            if method == "few_shot_cot":
                make_sweep_run(folder, dataset=dataset, method=method)
                continue
            for size in sizes:
                for share in shares:
                    for seed in seeds:
                        make_sweep_run(
                            folder, dataset=dataset, method=method, size=size, share=share, seed=seed
                        )
    return folder


def make_sweep_run(
    folder: Path,
    *,
    dataset: str = "svamp",
    method: str,
    size: str = "tiny",
    share: float = 1.0,
    seed: int = 0,
    weight: float = 1.0,
    correct: Sequence[bool] | None = None,
) -> Path:
    """SWEEP/runs/<run_id>: result.json, the test answers, rationales where the method writes some, and metrics."""
    taught = method not in ("fine_tuning", "few_shot_cot")
    teacher = method == "few_shot_cot"
    name = f"{dataset}-{method}" + ("" if teacher else f"-{size}-s{share:.2f}-l{weight:g}-seed{seed}")
    run = folder / "runs" / name
    skill = SKILL[method] + (0.0 if teacher else 0.08 * (size == "mini") - 0.15 * (1.0 - share))
    generator = random.Random(name)
    right = list(correct) if correct is not None else [generator.random() < skill for _ in range(NUM_ROWS)]
    task = f"{dataset}_rationale_then_label" if method == "rationale_then_label" else f"{dataset}_label"
    step = 0 if teacher else 400
    rows = [_row(dataset, i, good) for i, good in enumerate(right)]
    if method == "rationale_then_label":
        rows = [
            row | {"decoded": f"{_rationale(i)} The answer is {row['prediction']}"}
            for i, row in enumerate(rows)
        ]
    if teacher:
        rows = [row | {"rationale": _rationale(i)} for i, row in enumerate(rows)]
    _write_lines(run / "test_eval" / "predictions" / f"{task}-test-{step}.jsonl", rows)
    if method == "step_by_step":
        rationales = [
            _row(dataset, i, None) | {"target": _rationale(i), "prediction": _rationale(i, clumsy=i % 2 == 1)}
            for i in range(len(right))
        ]
        _write_lines(run / "test_eval" / "predictions" / f"{dataset}_rationale-test-{step}.jsonl", rationales)
    if not teacher:
        metrics = [
            {"step": s, "split": "validation", "task": task, "num_correct": s // 10, "num_examples": 80}
            for s in (200, 400)
        ]
        losses = [
            {"step": s, "split": "train", "loss": 3.0 - s / 200, "label_loss": 3.0 - s / 200}
            for s in (100, 200, 400)
        ]
        _write_lines(run / "metrics.jsonl", [*losses, *metrics])
    result = {
        "run": {
            "dataset": dataset, "method": method, "teacher": "palm-540b" if taught or teacher else None,
            "size": None if teacher else size, "gin_file": None if teacher else f"gin/dsbs_t5_{size}.gin",
            "train_share": None if teacher else share, "rationale_weight": weight if taught else None,
            "pairing": "mixture" if taught else None, "prefixes": None if teacher else "paper", "seed": None if teacher else seed,
        },
        "command": "stepdistill sweep small.toml", "version": "0.1.0", "step": None if teacher else step,
        "validation": None if teacher else {"num_correct": 40, "num_examples": 80, "accuracy": 50.0},
        "test": {"num_correct": sum(right), "num_examples": len(right), "accuracy": 100 * sum(right) / len(right)},
    }  # fmt: skip
    if not teacher:
        parameters = PARAMETERS[size]
        result |= {
            "train_examples": round(720 * share), "parameters": parameters, "training_flops": 6.0 * parameters * 1e6,
            "flops_per_prediction": 2.0 * parameters * 64, "wall_seconds": 100.0 + seed,
        }  # fmt: skip
    (run / "result.json").write_text(json.dumps(result))
    return run


def _row(dataset: str, i: int, right: bool | None) -> dict[str, Any]:
    target = f"( {i + 3} + 2 )"
    return {
        "example_id": f"{dataset}/test/{i}",
        "inputs": f"[label] Ann has {i + 3} <b>apples</b> and buys 2. How many has she?",
        "target": target,
        "prediction": target if right else f"( {i + 3} - 2 )",
        "correct": right,
    }


def _rationale(i: int, *, clumsy: bool = False) -> str:
    if clumsy:
        return f"She starts with {i + 3} apples. That is all."
    return f"Ann starts with {i + 3} apples and buys 2 more. So she has {i + 5}."


def _write_lines(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
