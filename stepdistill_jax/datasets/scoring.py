"""What label an answer gives, and whether it is right."""

from stepdistill_jax.base.methods import method_of_task
from stepdistill_jax.datasets import equations, registry
from stepdistill_jax.datasets.dataset import Dataset


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
        task = mixture_or_task_name.removeprefix(f"{name}_")
        if task == mixture_or_task_name:
            continue
        if task == "rationale":
            return ""
        found = method_of_task(mixture_or_task_name)
        if found is not None and found[0] == name:
            return registry.get(name).completion.answer_marker if found[1].is_one_target else ""
    return None
