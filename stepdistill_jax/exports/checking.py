"""Is an export the student that its checkpoint is? Both answer the validation split, and what differs is counted."""

import dataclasses
import json
import os
from collections.abc import Sequence
from pathlib import Path

from stepdistill_jax.base.text_fit import share
from stepdistill_jax.datasets import record_io, stream_examples
from stepdistill_jax.datasets.preparation import examples_folder
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
    run: Path, dataset: str | None, *, most: int, data_dir: str | os.PathLike[str] | None
) -> list[str]:
    """Inputs of the run's validation split, at most so many, evenly spread; none where neither run nor data have any."""
    texts = _of_run(run) or _of_data(dataset, data_dir)
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
        with path.open(encoding="utf-8") as lines:
            next(lines, None)  # names the choices
            return [json.loads(line)["inputs"] for line in lines]
    return []


def _of_data(dataset: str | None, data_dir: str | os.PathLike[str] | None) -> list[str]:
    if dataset is None:
        return []
    manifest = record_io.read_manifest(examples_folder(dataset, data_dir))
    if manifest is None or _SPLIT not in manifest["counts"]:
        return []
    return [example.inputs for example in stream_examples(dataset, _SPLIT, data_dir)]
