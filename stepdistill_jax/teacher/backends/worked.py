"""A dataset's own explanations as a teacher: the embedded problems' worked solutions, or what humans wrote."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from stepdistill_jax.teacher.answers.completions import Completion, Skipped
from stepdistill_jax.teacher.answers.parsing import ParsedCompletion

if TYPE_CHECKING:
    from stepdistill_jax.datasets import Dataset, Example


class WorkedTeacher:
    """Answers with the explanation and the gold label that the example holds; rows that lack one are skipped.

    So its labels are right by construction: a student of this teacher learns from gold labels and solutions.
    """

    name = "worked"

    def __init__(self, dataset: "Dataset"):
        self._marker = dataset.completion.answer_marker

    def complete(self, examples: Sequence["Example"]) -> Iterator[Completion | Skipped]:
        for example in examples:
            if not example.explanation.strip():
                yield Skipped("no explanation in the dataset")
            elif example.label is None:
                yield Skipped("no gold label")
            else:
                yield Completion(
                    text=f"{example.explanation} {self._marker} {example.label}",
                    finish_reason="stop",
                    parsed=ParsedCompletion(example.explanation, example.label),
                )

    def sources(self) -> dict[str, str]:
        return {}
