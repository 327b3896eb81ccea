"""A student from its folder, a run's or an export's, on a machine that has nothing else of it."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from stepdistill_jax.base import checkpoint_folders
from stepdistill_jax.base.line_breaks import write_line_breaks
from stepdistill_jax.base.messages import say_once
from stepdistill_jax.prediction import calibration, exported
from stepdistill_jax.prediction.description import StudentDescription, read_description
from stepdistill_jax.prediction.vocabularies import Vocabulary, open_vocabulary
from stepdistill_jax.prediction.written import Written

Tokens = Sequence[int]


class Network(Protocol):
    """What computes: a checkpoint's network in JAX, or an export's."""

    def score_choices(self, rows: Sequence[Tokens]) -> np.ndarray:
        """float32 [rows, choices]: log p(choice | row) in nats, ends of sequence included."""
        ...

    def write(self, rows: Sequence[Tokens]) -> list[Written]:
        """What the student writes for each row, greedily."""
        ...

    def warm_up(self) -> None:
        """Makes the first call as fast as those after it."""
        ...


@dataclasses.dataclass(frozen=True)
class Student:
    """Attributes:
    folder: that it was read from.
    step: of its checkpoint; None for an export that does not say.
    description: what student.json says.
    vocabulary: of inputs and targets.
    network: what computes.
    temperature: that the log-probabilities of the choices are divided by; 1.0 where it is not calibrated.
    is_calibrated: whether it was measured, on the validation split.
    """

    folder: Path
    step: int | None
    description: StudentDescription
    vocabulary: Vocabulary
    network: Network
    temperature: float = 1.0
    is_calibrated: bool = False


def load(
    path: str | os.PathLike[str],
    *,
    step: int | None = None,
    batch_tokens: int = 16384,
    num_partitions: int = 1,
    verify: bool = True,
) -> Student:
    """The student in a folder, its parameters read.

    Args:
      path: a run's folder, or an export's.
      step: of the checkpoint to take, default the best that the run keeps, else the newest.
      batch_tokens: tokens of a batch, padding included.
      num_partitions: devices that hold one copy of the parameters.
      verify: whether the files of the checkpoint, or of the export, are compared with their checksums first.

    Raises:
      FileNotFoundError: if there is no student, or no such checkpoint.
      ValueError: if a file of it is damaged.
    """
    folder = Path(path)
    description = read_description(folder)
    vocabulary = open_vocabulary(folder, description.vocabulary)
    if description.own_task:
        modules = ", ".join(description.task_modules) or "its module"
        say_once(
            f"{folder}: labels are what the student writes: {description.task} is a task of your own, and only {modules} says how "
            "they are read."
        )
    if len(description.scored_choices) == 1:
        say_once(
            f"{folder} has one choice, {description.scored_choices[0]!r}: it is the answer to every text, with probability 1."
        )
    export = exported.read_export(folder)
    sizes = {
        "choices": choice_tokens(description, vocabulary),
        "max_input_tokens": description.feature_lengths["inputs"],
        "max_target_tokens": description.feature_lengths["targets"],
        "batch_tokens": batch_tokens,
    }
    if export is not None:
        found = export.step
        if step not in (None, found):
            raise FileNotFoundError(f"{folder} is an export of step {found}; leave --step {step} out.")
        if verify:
            exported.check_files(folder, export)
        network = exported.open_network(folder, export, description, vocabulary, **sizes)
    else:
        found = checkpoint_folders.find_step(folder, step)
        checkpoint = folder.absolute() / checkpoint_folders.name_of(found)
        options = {"num_partitions": num_partitions, "verify": verify}
        network = exported.open_checkpoint(folder, checkpoint, description, vocabulary, **sizes, **options)
    calibrated = calibration.read_calibration(folder)
    if calibrated is not None and calibrated.step != found:
        say_once(
            f"{folder} is calibrated at step {calibrated.step}, not at {found}: probabilities are as the network gives them; "
            f"`stepdistill eval {folder} --step {found}` calibrates."
        )
        calibrated = None
    return Student(
        folder=folder,
        step=found,
        description=description,
        vocabulary=vocabulary,
        network=network,
        temperature=calibrated.temperature if calibrated else 1.0,
        is_calibrated=calibrated is not None,
    )


def choice_tokens(description: StudentDescription, vocabulary: Vocabulary) -> list[list[int]]:
    """What the student writes for each choice that it scores, ends of sequence included.

    Raises:
      ValueError: if two choices are the same tokens.
    """
    written: dict[tuple[int, ...], str] = {}
    for choice in description.scored_choices:
        word = write_line_breaks(description.label_words.get(choice, choice), description.line_break)
        tokens = (*vocabulary.encode(word), vocabulary.eos_id)
        if tokens in written:
            raise ValueError(
                f"choices {written[tokens]!r} and {choice!r} are the same token ids in the student's vocabulary; make one label "
                "of them (prepare FILE --merge_labels), or give one another word, label_words={label: word}."
            )
        written[tokens] = choice
    return [list(tokens) for tokens in written]
