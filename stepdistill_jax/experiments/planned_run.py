"""The runs of an experiment: every combination once, with its name and the gin bindings that make it."""

import dataclasses
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stepdistill_jax.base.methods import METHODS, Method
from stepdistill_jax.experiments.experiment_file import Augmentation, Experiment, Grid, Student


@dataclasses.dataclass(frozen=True)
class PlannedRun:
    """One run. What its method does not know (λ of fine-tuning, the seed of a teacher) is None.

    Attributes:
      prefixes: 'paper' or 'code'.
      pairing: 'mixture' or 'paired'.
      writes_rationales: whether the student's rationales of the test questions are written, too.
      extra_gin: bindings of the experiment for this dataset and method; they come before the run's own.
    """

    dataset: str
    method: Method
    teacher: str | None = None
    student: Student | None = None
    train_share: float | None = None
    rationale_weight: float | None = None
    pairing: str | None = None
    prefixes: str | None = None
    augmentation: Augmentation | None = None
    seed: int | None = None
    writes_rationales: bool = False
    extra_gin: tuple[str, ...] = ()

    @property
    def run_id(self) -> str:
        """'svamp-step_by_step-palm-540b-base-s0.5-l1-seed0': the folder's name, the same in every experiment."""
        parts = [self.dataset, self.method.name, self.teacher, self.student and self.student.name]
        if self.train_share is not None:
            parts.append(f"s{self.train_share:g}")
        if self.rationale_weight is not None:
            parts.append(f"l{self.rationale_weight:g}")
        parts += [
            "paired" if self.pairing == "paired" else None,
            "code" if self.prefixes == "code" else None,
            str(self.augmentation).replace(":", "") if self.augmentation else None,
            f"seed{self.seed}" if self.seed is not None else None,
        ]
        return "-".join(part for part in parts if part)

    @property
    def gin_files(self) -> tuple[str, ...]:
        return self.student.gin_files if self.student else ()

    def facts(self) -> dict[str, Any]:
        """What result.json says of the run."""
        return {
            "dataset": self.dataset,
            "method": self.method.name,
            "teacher": self.teacher,
            "size": self.student and self.student.name,
            "gin_file": self.gin_files[0] if self.gin_files else None,
            "train_share": self.train_share,
            "rationale_weight": self.rationale_weight,
            "pairing": self.pairing,
            "prefixes": self.prefixes,
            "augmentation": str(self.augmentation) if self.augmentation else None,
            "seed": self.seed,
        }

    def gin_bindings(self) -> tuple[str, ...]:
        """All of them but MODEL_DIR, the run's own last, so that these win; () where nothing is trained."""
        if self.student is None:
            return ()
        settings = self.student.settings
        values: dict[str, Any] = {
            "MIXTURE_OR_TASK_NAME": f"{self.dataset}_{self.method.task_ending}",
            "TEACHER": self.teacher,
            "PREFIXES": self.prefixes,
            "TRAIN_SHARE": self.train_share,
            "SUBSET_SEED": self.seed,
            "RANDOM_SEED": self.seed,
        }
        if self.rationale_weight is not None:
            values["RATIONALE_WEIGHT"] = self.rationale_weight
        if self.augmentation is not None:
            values |= {
                "AUGMENTATION": self.augmentation.dataset,
                "AUGMENTATION_SHARE": self.augmentation.share,
            }
        if "steps" in settings:
            values["TRAIN_STEPS"] = settings["steps"]
        if "learning_rate" in settings:
            values["BASE_LEARNING_RATE"] = settings["learning_rate"]
        if "batch_rows" in settings:
            values["BATCH_SIZE"] = settings["batch_rows"]
        if "batch_rows_per_task" in settings:
            values["BATCH_SIZE"] = settings["batch_rows_per_task"] * self.method.num_tasks
        if "batch_examples" in settings:
            values |= {"PACK": False, "BATCH_SIZE": settings["batch_examples"] * self.method.num_tasks}
        if "eval_period" in settings:
            values["EVAL_PERIOD"] = settings["eval_period"]
        lines = [f"{name} = {value!r}" for name, value in values.items()]
        if self.pairing == "paired":
            lines.append("train/utils.DatasetConfig.paired = True")
        # Every step that is evaluated may be the one that is chosen.
        lines += ["CHECKPOINT_PERIOD = %EVAL_PERIOD", "utils.SaveCheckpointConfig.keep = None"]
        return (*self.student.gin, *self.extra_gin, *lines)


def planned_runs(experiment: Experiment) -> list[PlannedRun]:
    """Every run of an experiment once, in the order of its file.

    Raises:
      ValueError: if two grids give a run of the same name other settings.
    """
    runs: dict[str, PlannedRun] = {}
    for run in itertools.chain.from_iterable(map(_runs_of, experiment.grids)):
        known = runs.setdefault(run.run_id, run)
        if known.gin_bindings() != run.gin_bindings() or known.gin_files != run.gin_files:
            raise ValueError(
                f"{experiment.path}: two grids have a run {run.run_id} with other settings; give them students of "
                "different names."
            )
    return list(runs.values())


def find_run(experiment: Experiment, run_id: str) -> PlannedRun:
    """The run of that name.

    Raises:
      ValueError: names the nearest.
    """
    from stepdistill_jax.base.messages import nearest

    runs = {run.run_id: run for run in planned_runs(experiment)}
    if run_id not in runs:
        raise ValueError(f"{experiment.path} has no run '{run_id}'{nearest(run_id, runs)}.")
    return runs[run_id]


def _runs_of(grid: Grid) -> Iterator[PlannedRun]:
    for dataset, name, student, share, weight, teacher, pairing, prefixes, augmentation, seed in itertools.product(
        grid.datasets, grid.methods, grid.students, grid.shares, grid.rationale_weights, grid.teachers or (None,),
        grid.pairings, grid.prefixes, grid.augmentations, grid.seeds,
    ):  # fmt: skip
        method = METHODS[name]
        if not method.is_trained:
            yield PlannedRun(dataset, method, teacher)
            continue
        yield PlannedRun(
            dataset=dataset,
            method=method,
            teacher=teacher if method.needs_teacher or augmentation else None,
            student=student,
            train_share=share,
            rationale_weight=weight if method.has_rationale_task else None,
            pairing=pairing if method.has_rationale_task else None,
            prefixes=prefixes,
            augmentation=augmentation,
            seed=seed,
            writes_rationales=grid.rationales and method.has_rationale_task,
            extra_gin=tuple(
                line for key in (dataset, name, student.name) for line in grid.gin_for.get(key, ())
            ),
        )


def default_output(experiment: Experiment) -> Path:
    """runs/<folder>_<file>: that of experiments/small/table2.toml is runs/small_table2."""
    folder = experiment.path.absolute().parent.name
    return Path("runs") / f"{folder}_{experiment.path.stem}"
