"""Is an export the student that its checkpoint is? Both answer the validation split, and what differs is counted."""

import dataclasses
import json
import os
from collections.abc import Sequence
from pathlib import Path

from stepdistill_jax.base.messages import say_once
from stepdistill_jax.base.text_fit import share
from stepdistill_jax.datasets import record_io, stream_examples
from stepdistill_jax.datasets.lineage.indexes import split_index
from stepdistill_jax.datasets.preparation import examples_folder
from stepdistill_jax.prediction.description import StudentDescription
from stepdistill_jax.prediction.predictor import Predictor

_SPLIT = "validation"


@dataclasses.dataclass(frozen=True)
class Check:
    """How an export's answers to validation texts differ from the checkpoint's.

    Attributes:
      num_texts: that both have answered.
      num_differing: of them with another label.
      largest_difference: between the probabilities of a choice, over all texts; of the label, where labels are open text.
    """

    num_texts: int
    num_differing: int
    largest_difference: float

    @property
    def agreement(self) -> float:
        """In [0, 1]."""
        return 1 - self.num_differing / self.num_texts

    @property
    def text(self) -> str:
        """For a user, and for the model card."""
        return (
            f"{share(self.num_differing, self.num_texts)} labels on {_SPLIT} differ from the checkpoint's; probabilities by "
            f"{self.largest_difference:.2g} at most"
        )


def validation_texts(
    run: Path, description: StudentDescription, *, most: int, data_dir: str | os.PathLike[str] | None
) -> list[str]:
    """Inputs of the run's validation split, at most so many, evenly spread; none where neither run nor data have any.

    Raises:
      ValueError: if the run's file of them is damaged.
    """
    texts = _of_run(run) or _of_data(description, data_dir)
    step = max(1, -(-len(texts) // most))
    return texts[::step]


def compare(checkpoint: Predictor, export: Predictor, texts: Sequence[str]) -> Check:
    """Asks both, for labels alone."""
    num_differing, largest = 0, 0.0
    for before, after in zip(checkpoint(texts), export(texts), strict=True):
        num_differing += before.label != after.label
        if before.label == after.label and not before.probabilities:
            largest = max(largest, abs((before.probability or 0.0) - (after.probability or 0.0)))
        for choice, probability in before.probabilities.items():
            largest = max(largest, abs(probability - after.probabilities[choice]))
    return Check(len(texts), num_differing, largest)


def _of_run(run: Path) -> list[str]:
    """From RUN/predictions/choices-validation-<step>.jsonl, which `stepdistill eval` writes; any step has the same texts."""
    for path in sorted((run / "predictions").glob(f"choices-{_SPLIT}-*.jsonl")):
        try:
            with path.open(encoding="utf-8") as lines:
                _, *rows = map(json.loads, lines)  # the first names the choices
            texts = [row["inputs"] for row in rows]
            if not all(isinstance(text, str) for text in texts):
                raise TypeError("an input that is no text")
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(
                f"{path} is damaged ({error!r}); take it away, and `stepdistill eval {run}` writes it again."
            ) from error
        return texts
    return []


def _of_data(description: StudentDescription, data_dir: str | os.PathLike[str] | None) -> list[str]:
    """From the data folder, if its split is the one that the run was trained beside."""
    name = description.dataset.get("name")
    if name is None:
        return []
    folder = examples_folder(name, data_dir)
    manifest = record_io.read_manifest(folder)
    if manifest is None or _SPLIT not in manifest["counts"]:
        return []
    known = description.content.get(f"{name}/examples/{_SPLIT}", {}).get("sha256")
    found = split_index(folder, _SPLIT).identity.sha256 if known else None
    if known != found:
        say_once(
            f"{folder}: its {_SPLIT} split is not the one that the student was trained beside ({found[:12]}, not {known[:12]}): "
            "nothing is compared on it."
        )
        return []
    return [example.inputs for example in stream_examples(name, _SPLIT, data_dir)]
