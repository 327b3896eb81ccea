"""Runs and sweeps: whether what they wrote adds up, and the data that they say they are of are still those."""

from pathlib import Path
from typing import Any

from stepdistill_jax.base import checkpoint_folders
from stepdistill_jax.datasets.lineage.changes import changed_since
from stepdistill_jax.datasets.lineage.content import Identity
from stepdistill_jax.datasets.lineage.mixed_data import HOW_TO_GO_ON
from stepdistill_jax.engine.checkpoint import checksums
from stepdistill_jax.report.runs.folder import PREDICTIONS_NAME, Run, read_predictions, read_run
from stepdistill_jax.report.runs.lineage import origin_text
from stepdistill_jax.report.runs.same_data import data_of, mixed_data
from stepdistill_jax.report.sweep.folder import read_sweep
from stepdistill_jax.report.verify.tree import Node, when


def verify_run(folder: Path, data: Path) -> Node:
    """A run: starts, data, evaluations with their predictions, checkpoints.

    Args:
      data: DATA, where the run's data are looked for; parts that are not there are said to be so, and not compared.
    """
    try:
        run = read_run(folder, name=folder.name)
    except (ValueError, FileNotFoundError) as error:
        return Node(str(folder), [str(error)])
    said = run.settings.get("content") or {}
    steps = f"{run.num_steps:,} steps of {run.settings.get('mixture_or_task_name', 'an unknown task')}"
    node = Node(f"{folder}, {when(folder / 'metrics.jsonl')}: {steps}")
    node.children += [_starts(run), _data(said, data)]
    node.children += [_evaluation(path, run) for path in _prediction_files(folder)]
    node.children += [_checkpoint(path) for path in _checkpoints(folder)]
    node.problems += _plain(mixed_data([data_of(folder.name, folder, {})]))
    node.problems += _plain(changed_since(said, data, place=folder))
    return node


def verify_sweep(folder: Path, data: Path) -> Node:
    """A sweep: each of its runs, and whether all are of the same data."""
    sweep = read_sweep(folder)
    node = Node(f"{folder}, finished runs: {len(sweep.runs)}")
    for run in sweep.runs:
        if (run.folder / "metrics.jsonl").exists():
            node.children.append(verify_run(run.folder, data))
        else:
            said = run.result.get("content") or {}
            problems = _plain(changed_since(said, data, place=run.folder))
            node.children.append(
                Node(f"{run.folder}: {run.settings.get('method')}", problems, [_data(said, data)])
            )
    runs = [
        data_of(run.run_id, run.folder, {name: each.target for name, each in run.answers.items()})
        for run in sweep.runs
    ]
    node.problems += _plain(mixed_data(runs))
    return node


def _starts(run: Run) -> Node:
    starts = run.settings.get("starts") or []
    children = []
    for start in starts:
        jax = (start.get("versions") or {}).get("jax", "an unknown version")
        commit = str(start.get("commit") or "no commit")[:10]
        line = f"{start.get('started')} at step {start.get('step', 0)}: jax {jax}, {commit}, {start.get('devices')}"
        allowed = [Node(f"mixed data allowed: {text}") for text in start.get("mixed_data") or ()]
        children.append(Node(line, children=allowed))
    return Node(f"starts: {len(starts) or 'not noted by the version that wrote this'}", children=children)


def _data(said: dict[str, Any], data: Path) -> Node:
    children = []
    for part, identity in said.items():
        there = "" if (data / part).parent.exists() else f"; not in {data}, not compared"
        children.append(
            Node(f"{part}: {Identity.read(identity)}, {origin_text(identity.get('from') or {})}{there}")
        )
    return Node("data" if said else "data: not noted by the version that wrote this", children=children)


def _prediction_files(folder: Path) -> list[Path]:
    found = [*folder.glob("predictions/*.jsonl"), *folder.glob("*/predictions/*.jsonl")]
    return sorted(path for path in found if PREDICTIONS_NAME.fullmatch(path.name))


def _evaluation(path: Path, run: Run) -> Node:
    """Predictions, counted again, beside what the metrics say of them."""
    name = PREDICTIONS_NAME.fullmatch(path.name)
    try:
        predictions = read_predictions(path)
    except ValueError as error:
        return Node(path.name, [str(error)])
    right = sum(bool(each.correct) for each in predictions)
    node = Node(f"{path.relative_to(run.folder)}: {right:,} of {len(predictions):,} right")
    for accuracy in run.evaluations:
        same = (accuracy.task, accuracy.split, accuracy.step) == (
            name["task"],
            name["split"],
            int(name["step"]),
        )
        if same and (accuracy.num_correct, accuracy.num_examples) != (right, len(predictions)):
            node.problems.append(
                f"{path} has {right:,} of {len(predictions):,} right, the metrics {accuracy.num_correct:,} of "
                f"{accuracy.num_examples:,}; evaluate again."
            )
    return node


def _checkpoints(folder: Path) -> list[Path]:
    return [folder / checkpoint_folders.name_of(step) for step in checkpoint_folders.steps_in(folder)]


def _checkpoint(path: Path) -> Node:
    try:
        checked = checksums.check(path)
    except ValueError as error:
        return Node(path.name, [str(error)])
    return Node(f"{path.name}: {checked or 'no checksums, as those of earlier versions and T5X have none'}")


def _plain(lines: list[str]) -> list[str]:
    return [line.removesuffix(HOW_TO_GO_ON).rstrip() for line in lines]
