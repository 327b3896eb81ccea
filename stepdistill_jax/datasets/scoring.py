"""Whether an answer is right."""

from stepdistill_jax.datasets import equations
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
