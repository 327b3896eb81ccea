"""What label an answer gives, and whether it is right."""

import functools
from collections.abc import Callable

from stepdistill_jax.base.line_breaks import read_line_breaks
from stepdistill_jax.base.methods import Method, method_of_task
from stepdistill_jax.datasets import equations, registry, spelling
from stepdistill_jax.datasets.dataset import Dataset
from stepdistill_jax.datasets.text_vocabularies import TextVocabulary


def labels_match(dataset: Dataset, predicted: str | None, gold: str) -> bool:
    """Whether an answer is right: the same text but for outer spaces, or an equation of the same value.

    A gold label that is no equation ('6:7' in ASDiv) is compared as text.
    """
    if predicted is None or not gold.strip():
        return False
    if dataset.metric == "equation" and (value := equations.evaluate(gold)) is not None:
        return equations.values_match(equations.evaluate(predicted), value)
    return predicted.strip() == gold.strip()


def label_in(text: str, dataset: Dataset, words: TextVocabulary, *, marker: str = "") -> str:
    """The label that a student's answer gives: all of it, or what stands behind its last marker; '' where none stands."""
    text = read_line_breaks(text, spelling.line_break_word(words))
    if marker:
        text = text.rpartition(marker)[2] if marker in text else ""
    return spelling.read_label(dataset, text.strip())


def label_reader(mixture_or_task_name: str, words: TextVocabulary) -> Callable[[str], str] | None:
    """`label_in` for the answers to a task of a registered dataset; None for tasks that are not ours."""
    found = dataset_of_task(mixture_or_task_name)
    if found is None:
        return None
    dataset, method = found
    return functools.partial(label_in, dataset=dataset, words=words, marker=marker_of(dataset, method))


def marker_of(dataset: Dataset, method: Method | None) -> str:
    """What the label stands behind in an answer of a student of this method; '' where the answer is the label."""
    return dataset.completion.answer_marker if method is not None and method.is_one_target else ""


def dataset_of_task(mixture_or_task_name: str) -> tuple[Dataset, Method | None] | None:
    """(dataset, method) of a task of a registered dataset; no method has the rationales alone. None for tasks that are not ours."""
    for name in registry.names():
        if mixture_or_task_name == f"{name}_rationale":
            return registry.get(name), None
        found = method_of_task(mixture_or_task_name)
        if found is not None and found[0] == name:
            return registry.get(name), found[1]
    return None
