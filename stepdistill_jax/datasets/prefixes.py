"""What is put before the inputs of a task, so that one student knows both."""

from stepdistill_jax.datasets import choices
from stepdistill_jax.datasets.dataset import LABEL_TASK_ID, RATIONALE_TASK_ID

# What is put before the inputs: the paper's text, or its authors' code, which says "predict: " and "explain: ".
PREFIXES = {
    "paper": {LABEL_TASK_ID: "[label] ", RATIONALE_TASK_ID: "[rationale] "},
    "code": {LABEL_TASK_ID: "predict: ", RATIONALE_TASK_ID: "explain: "},
}


def prefix(task_id: int) -> str:
    """The task's prefix, in the style of `datasets.task_choices.prefixes` or $STEPDISTILL_PREFIXES."""
    style = choices.task_choices().prefixes
    if style not in PREFIXES:
        raise ValueError(
            f"prefixes={style!r} (task_choices.prefixes, or STEPDISTILL_PREFIXES); use {' or '.join(map(repr, PREFIXES))}."
        )
    return PREFIXES[style][task_id]
