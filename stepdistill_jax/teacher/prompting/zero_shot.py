"""The prompt of a dataset that has no prompt file: what it says of itself, and no worked example."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from stepdistill_jax.teacher.prompting.prompt_files import PromptFile

if TYPE_CHECKING:
    from stepdistill_jax.datasets import Dataset

_TASK = "Read the text, and choose the label that fits it best."


def prompt_of(dataset: "Dataset", labels: Sequence[str]) -> PromptFile:
    """The prompt, made of the dataset's instruction and its labels; () is a dataset whose labels are any text."""
    marker = dataset.completion.answer_marker
    if labels:
        ending = f'Give the reason in one or two sentences, and end with "{marker}" and one label, as it stands above.'
    else:
        ending = f'Let\'s think step by step, and end with "{marker}" and the answer.'
    return PromptFile(
        path=Path("(zero-shot)"),
        instruction=instruction_of(dataset, labels),
        zero_shot=ending,
        answer=f"{{rationale}} {marker} {{label}}.",
        exemplars=(),
    )


def instruction_of(dataset: "Dataset", labels: Sequence[str]) -> str:
    """What the teacher is told to do, and the labels that there are; '' where neither is known."""
    if not labels:
        return dataset.instruction
    return "\n".join([dataset.instruction or _TASK, "The labels:", *(f"- {label}" for label in labels)])


def notice(dataset: "Dataset", labels: Sequence[str]) -> str:
    """What a user should know of such a prompt."""
    told = f"told its {len(labels)} labels" if labels else "not told its labels"
    return (
        f"{dataset.name} has no prompt file: the teacher is {told} and shown no worked example; `stepdistill teach "
        f"{dataset.name} --prompt_from 8` writes a file to begin with."
    )
