"""The gin file that a run by names stands for."""

import dataclasses
import shlex
from collections.abc import Mapping
from typing import Any

from stepdistill_jax.base.methods import METHODS
from stepdistill_jax.launching.named.beginnings import step_of
from stepdistill_jax.launching.named.settings import Settings, command_of
from stepdistill_jax.launching.named.students import Budget, Student

_WARMUP_SHARE = 0.1
_LONGEST_WARMUP = 1_000  # T5X's for fine-tuning
# What further bindings may name; a gin file imports what it binds.
_IMPORTS = """\
from __gin__ import dynamic_registration

import __main__ as train_script
import seqio
from stepdistill_jax import datasets
from stepdistill_jax.engine.model import llama
from stepdistill_jax.student import model as student
from t5x import adafactor
from t5x import checkpoints
from t5x import decoding
from t5x import optimizers
from t5x import partitioning
from t5x import trainer
from t5x import utils
from t5x.examples.t5 import network
"""


@dataclasses.dataclass(frozen=True)
class Plan:
    """A run by names with every value in its place.

    Attributes:
      settings: nothing is left open but what the method does not know.
      student, budget: the network, and what its size was given.
      checkpoint: that it begins with; None for random parameters.
      embedded: whether the dataset has the embedded vocabulary.
      notes: macro -> where its value comes from.
    """

    settings: Settings
    student: Student
    budget: Budget
    checkpoint: str | None
    embedded: bool
    notes: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def label_task(self) -> str:
        """The task whose accuracy on the validation split is followed."""
        method = METHODS[self.settings.method]
        return f"{self.settings.dataset}_{method.label_task or method.task_ending}"


def gin_text(plan: Plan) -> str:
    """The whole file: what `plan` says, the user's gin files, and the user's bindings last."""
    further = [f"include {file!r}" for file in plan.settings.gin_files]
    behind = [*further, *plan.settings.bindings]
    return own_part(plan) + ("\n# Given besides\n" + "\n".join(behind) + "\n" if behind else "")


def own_part(plan: Plan) -> str:
    """The file without what is given besides, which is read behind it and checked like any flag."""
    parts = [
        f"# {shlex.join(command_of(plan.settings))}\n{_IMPORTS}",
        f"include {plan.student.gin_file!r}\ninclude {_shared_by_all(plan.student)!r}\n",
        "".join(_line(name, value, plan.notes.get(name)) for name, value in macros(plan).items()),
        _keeping(plan.label_task),
    ]
    if plan.embedded:
        parts.append("VOCABULARY = @datasets.embedded_vocabulary()\n")
    if plan.budget.shards_parameters:
        parts.append("partitioning.standard_logical_axis_rules.parameter_partitioning_dims = 2\n")
    if plan.checkpoint is not None:
        parts.append(_beginning(plan.checkpoint))
    if plan.settings.early_stopping is not None:
        parts.append(_stopping(plan.label_task, plan.settings.early_stopping))
    return "\n".join(parts)


def _shared_by_all(student: Student) -> str:
    return "gin/decoder_student.gin" if student.is_decoder_only else "gin/student.gin"


def macros(plan: Plan) -> dict[str, Any]:
    """Macro -> its value, as planned."""
    settings, scratch = plan.settings, plan.checkpoint is None
    method = METHODS[settings.method]
    lengths = {"inputs": settings.inputs_length, "targets": settings.targets_length, "task_ids": settings.targets_length}  # fmt: skip
    values: dict[str, Any] = {
        "MODEL_DIR": str(settings.output),
        "MIXTURE_OR_TASK_NAME": f"{settings.dataset}_{method.task_ending}",
        "TASK_FEATURE_LENGTHS": lengths,
        "BATCH_SIZE": settings.batch_size,
        "TRAIN_STEPS": settings.steps,
        "BASE_LEARNING_RATE": settings.learning_rate,
        "WARMUP_STEPS": min(_LONGEST_WARMUP, max(1, round(_WARMUP_SHARE * settings.steps))),
        "DROPOUT_RATE": plan.budget.dropout_rate,
        "EVAL_PERIOD": settings.eval_period,
        "CHECKPOINT_PERIOD": settings.eval_period,
        "TRAIN_SHARE": settings.share,
        "SUBSET_SEED": settings.seed,
        "RANDOM_SEED": settings.seed,
    }
    optional = {
        "TEACHER": settings.teacher,
        "RATIONALE_WEIGHT": settings.rationale_weight,
        "PREFIXES": settings.prefixes,
        "STEP_OFFSET": step_of(plan.checkpoint) or None,
        "NUM_MICROBATCHES": plan.budget.num_microbatches,
        "NUM_PARTITIONS": plan.budget.num_partitions if plan.budget.num_partitions > 1 else None,
    }
    values |= {name: value for name, value in optional.items() if value is not None}
    if scratch:
        values |= {"LEARNING_RATE_FACTORS": "constant * linear_warmup * cosine_decay", "STEPS_PER_CYCLE": settings.steps}  # fmt: skip
    return values


def _line(name: str, value: Any, note: str | None) -> str:
    line = f"{name} = {value!r}"
    return f"{line:<39}  # {note}\n" if note else f"{line}\n"


def _keeping(label_task: str) -> str:
    """The best checkpoint by the validation split stays, beside the newest."""
    metric = f"inference_eval/{label_task}/eval/accuracy"
    return (
        "utils.SaveCheckpointConfig:\n  keep = 1                               # the best, beside the newest\n"
        "  checkpointer_cls = @checkpoints.SaveBestCheckpointer\n"
        f"checkpoints.SaveBestCheckpointer.metric_name_to_monitor = {metric!r}\n"
    )


def _beginning(checkpoint: str) -> str:
    return (
        "RESTORE = @utils.RestoreCheckpointConfig()\n"
        f"utils.RestoreCheckpointConfig:\n  path = {checkpoint!r}\n  mode = 'specific'\n  dtype = 'float32'\n"
    )


def _stopping(label_task: str, looks: int) -> str:
    """T5X's patience counts the look that the first of `looks` is compared with."""
    return (
        "train_script.train.actions = {'INFER_EVAL': [@trainer.EarlyStoppingAction()]}\n"
        f"trainer.EarlyStoppingAction:\n  metric = ({label_task!r}, 'accuracy')\n  mode = 'max'\n  patience = {looks + 1}\n"
    )
