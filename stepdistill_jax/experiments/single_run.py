"""One run of an experiment, from its first step to its result: train, choose by validation, read the test split once."""

import json
import shlex
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stepdistill_jax.base.version import __version__
from stepdistill_jax.experiments import choice, run_files, stopwatch
from stepdistill_jax.experiments.planned_run import PlannedRun
from stepdistill_jax.report.sweep.folder import failure_file

Result = dict[str, Any]


def command_of(run: PlannedRun, *, file: Path, output: Path, data_dir: Path | None) -> str:
    """The shell command that does this run alone, the same here as on a cluster."""
    command = ["stepdistill", "sweep", str(file), "--only", run.run_id, "--output", str(output)]
    return shlex.join(command if data_dir is None else [*command, "--data_dir", str(data_dir)])


def do_run(run: PlannedRun, *, output: Path, data_dir: Path | None, command: str) -> Result:
    """Does the run, or goes on with it, and returns its result; one that is done is left as it is.

    Raises:
      FolderInUse: if another process does it at this moment.
      ValueError: if it was begun with other settings.
    """
    folder = run_files.run_folder(output, run.run_id)
    with run_files.only_one(output / "locks" / run.run_id, f"run {run.run_id}"):
        result = run_files.read_result(folder)
        if result is not None:
            print(f"{run.run_id}: done before.", file=sys.stderr)
            return result
        run_files.check_plan(run, output)
        failure_file(output, run.run_id).unlink(missing_ok=True)
        run_files.write_json(folder / run_files.PLAN, run_files.plan_of(run))
        with stopwatch.timed(folder / run_files.SECONDS):
            measured = _train(run, folder, data_dir) if run.method.is_trained else _ask(run, folder, data_dir)
        result = {
            "run": run.facts(),
            "command": command,
            "version": __version__,
            **measured,
            "wall_seconds": stopwatch.total_seconds(folder / run_files.SECONDS),
        }
        run_files.write_json(folder / run_files.RESULT, result)
        _delete_other_checkpoints(folder, chosen=result["step"])
    return result


def _train(run: PlannedRun, folder: Path, data_dir: Path | None) -> Result:
    """Trains, chooses the checkpoint, and scores it on the test split."""
    import gin

    from stepdistill_jax.engine import precompile
    from stepdistill_jax.engine.step.initialize import abstract_train_state
    from stepdistill_jax.experiments import costs
    from stepdistill_jax.launching import launch, runs

    bindings = [*run.gin_bindings(), f"MODEL_DIR = {str(folder)!r}"]
    last_step, _ = launch.call("train", run.gin_files, bindings, data_dir=data_dir)
    configured = precompile.bindings_of_train(gin)
    model, cfg = configured["model"], configured["train_dataset_cfg"]
    params = abstract_train_state(model, *precompile.batch_shapes(model, cfg)).params

    best = choice.best_on_validation(choice.metrics_rows(folder))
    [scored] = runs.evaluate(folder, split="test", step=best["step"], data_dir=data_dir)
    predictions = folder / "test_eval" / "predictions" / f"{scored['task']}-test-{best['step']}.jsonl"
    if run.writes_rationales:
        task = f"{run.dataset}_rationale"
        runs.infer(folder, split="test", step=best["step"], task=task, data_dir=data_dir)
    facts = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    steps = last_step - facts["first_step"]
    return {
        "step": best["step"],
        "validation": choice.score_of(best),
        "test": choice.score_of(scored),
        "train_steps": steps,
        "train_examples": _num_examples(facts["data"]),
        "parameters": facts["num_parameters"],
        "training_flops": costs.training_flops(model, cfg, params, steps=steps),
        "flops_per_prediction": costs.flops_per_prediction(model, cfg, params, predictions=predictions),
    }


def _num_examples(contents: Mapping[str, Any]) -> int:
    """Training examples: of a mixture's tasks the largest number, as an answer without a rationale has a label only."""
    return max(task["examples"] for task in contents.values())


def _ask(run: PlannedRun, folder: Path, data_dir: Path | None) -> Result:
    """Scores the answers that the teacher has given, and writes those of the test split as an evaluation would."""
    from stepdistill_jax import datasets
    from stepdistill_jax.datasets.lineage.belonging import misfits
    from stepdistill_jax.datasets.lineage.indexes import split_index
    from stepdistill_jax.datasets.lineage.mixed_data import settle
    from stepdistill_jax.experiments import teacher_scores

    dataset = datasets.get(run.dataset, data_dir)
    records = datasets.data_dir(data_dir) / run.dataset / "rationales" / run.teacher
    examples = datasets.data_dir(data_dir) / run.dataset / "examples"
    settle(misfits(records, examples, "test"))
    scores = {split: teacher_scores.score(dataset, records, split) for split in ("validation", "test")}
    if scores["test"] is None:
        raise ValueError(
            f"{records} has no answers on the test split; ask for them: stepdistill teach {run.dataset} --teacher …"
        )
    teacher_scores.write_predictions(
        dataset, records, folder / "test_eval" / "predictions" / f"{run.dataset}_label-test-0.jsonl"
    )
    said = split_index(records, "test").identity
    nothing = dict.fromkeys(
        ("step", "train_steps", "train_examples", "parameters", "training_flops", "flops_per_prediction")
    )
    return {**nothing, **scores, "content": {f"{run.dataset}/rationales/{run.teacher}/test": said.as_dict()}}


def _delete_other_checkpoints(folder: Path, *, chosen: int | None) -> None:
    for path in folder.glob("checkpoint_*"):  # and what a save that was killed has left
        if path.name != f"checkpoint_{chosen}":
            shutil.rmtree(path)
