"""From a number back to what it came from: predictions, checkpoint, data, rationales, model and prompt."""

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from stepdistill_jax.datasets.lineage.content import SHOWN, Identity
from stepdistill_jax.report.runs.folder import Accuracy, Run

Fact = tuple[str, str]  # a term, and what is said of it


def lineage_of_run(run: Run) -> list[Fact]:
    """A run's test accuracy, or its last one, back to its data; [] where an earlier version wrote the run."""
    said = run.settings.get("content") or {}
    accuracy = run.test_accuracy() or next(iter(run.accuracies("validation")[-1:]), None)
    return ([_of_accuracy(run, accuracy)] if accuracy and said else []) + lineage_of_data([said])


def lineage_of_folders(folders: Iterable[Path]) -> list[Fact]:
    """Each part of the data of several runs once, as their run.json and result.json say."""
    files = (folder / name for folder in folders for name in ("run.json", "result.json"))
    facts = (json.loads(path.read_text(encoding="utf-8")) for path in files if path.is_file())
    return lineage_of_data(each.get("content") or {} for each in facts)


def lineage_of_data(contents: Iterable[Mapping[str, Mapping[str, Any]]]) -> list[Fact]:
    """('svamp/rationales/palm-540b/train', '3fa2b1c4d5e6, 720 records, from …') of each part, once each identity."""
    found = {
        (part, f"{Identity.read(said)}, {origin_text(said.get('from') or {})}"): None
        for content in contents
        for part, said in content.items()
    }
    return list(found)


def _of_accuracy(run: Run, accuracy: Accuracy) -> Fact:
    files = [
        each.path.relative_to(run.folder).as_posix()
        for each in run.prediction_files
        if (each.split, each.step) == (accuracy.split, accuracy.step)
    ]
    return (
        f"{accuracy.num_correct:,} of {accuracy.num_examples:,} ({accuracy.split})",
        f"checkpoint_{accuracy.step}; answers in {', '.join(files) or 'no file'}",
    )


def origin_text(made_of: Mapping[str, Any]) -> str:
    """'from qwen3-8b at http://…, prompt 3fa2b1c4d5e6', or from the published files; or who has made it."""
    files = {**(made_of.get("source_sha256") or {}), **(made_of.get("sources") or {})}
    named = [f"{os.path.basename(name)} {sha256[:SHOWN]}" for name, sha256 in sorted(files.items())]
    model = made_of.get("model") or made_of.get("teacher") or made_of.get("source") or "what nobody has noted"
    made = "" if model.startswith("made by") else "from "
    parts = [f"{made}{model}" + (f" at {made_of['server']}" if made_of.get("server") else "")]
    if made_of.get("prompt_hash"):
        parts.append(f"prompt {made_of['prompt_hash'][:SHOWN]}")
    if named:
        parts.append(", ".join(named[:3]) + (f" and {len(named) - 3} more files" if len(named) > 3 else ""))
    return ", ".join(parts)
