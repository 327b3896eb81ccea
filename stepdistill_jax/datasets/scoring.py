"""What label an answer gives, and whether it is right."""

from stepdistill_jax.datasets import equations, registry
from stepdistill_jax.datasets.dataset import Dataset

# The tasks and mixtures of a dataset (`seqio_tasks.register_tasks`), by what their answers hold.
_RATIONALE_AND_LABEL = ("rationale_then_label", "rationale_then_teacher_label")
_ONE_TEXT = (
    "label", "teacher_label", "rationale", "rationale_as_input", "step_by_step", "step_by_step_teacher_label",
)  # fmt: skip


def labels_match(dataset: Dataset, predicted: str | None, gold: str) -> bool:
    """Whether an answer is right: the same text but for outer spaces, or an equation of the same value.

    A gold label that is no equation ('6:7' in ASDiv) is compared as text.
    """
    if predicted is None or not gold.strip():
        return False
    if dataset.metric == "equation" and (value := equations.evaluate(gold)) is not None:
        return equations.values_match(equations.evaluate(predicted), value)
    return predicted.strip() == gold.strip()


def label_in(text: str, marker: str = "") -> str:
    """The label that a student's answer gives: all of it, or what stands behind its last marker; '' where none stands."""
    if not marker:
        return text.strip()
    return text.rpartition(marker)[2].strip() if marker in text else ""


def marker_of(mixture_or_task_name: str) -> str | None:
    """What stands before the label in an answer to a task of a registered dataset; None for tasks that are not ours."""
    for name in registry.names():
        if mixture_or_task_name.startswith(f"{name}_"):
            form = mixture_or_task_name.removeprefix(f"{name}_")
            if form in _RATIONALE_AND_LABEL:
                return registry.get(name).completion.answer_marker
            if form in _ONE_TEXT:
                return ""
    return None
