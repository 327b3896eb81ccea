"""Published accuracies to draw beside ours, from a CSV file that names the source of each."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stepdistill_jax.base.methods import words_of
from stepdistill_jax.report.sweep.folder import Group

FILE = "published.csv"
COLUMNS = ("dataset", "method", "teacher", "size", "parameters", "train_share", "percent", "source")


@dataclass(frozen=True)
class Published:
    """One published test accuracy in percent.

    Attributes:
      teacher: as sweeps name it, '' for a method that has none.
      source: cited in legend and caption, such as 'arXiv:2305.02301, Table 2'.
    """

    dataset: str
    method: str
    teacher: str
    size: str
    parameters: float
    train_share: float
    percent: float
    source: str

    @property
    def label(self) -> str:
        return f"{words_of(self.method)} ({self.source})"

    def is_of(self, group: Group) -> bool:
        """Whether it is of the same method, taught by the same teacher, on the same dataset."""
        own = (group.dataset, group.method, str(group.first.settings.get("teacher") or ""))
        return own == (self.dataset, self.method, self.teacher)

    def fits(self, axis: str, size: str, share: float | None) -> bool:
        """Whether it belongs into the figure along `axis` for this size and share."""
        if axis == "share":
            return self.size == size
        return axis == "size" and self.train_share == (1.0 if share is None else share)

    def place(self, axis: str) -> float:
        return 100.0 * self.train_share if axis == "share" else self.parameters


def read_published(folder: Path) -> Sequence[Published]:
    """The rows of SWEEP/published.csv; () if there is none.

    Raises:
      ValueError: a column is missing or a number is none, with file and line.
    """
    path = folder / FILE
    if not path.is_file():
        return ()
    found = []
    with path.open(encoding="utf-8", newline="") as file:
        for line, row in enumerate(csv.DictReader(file), start=2):
            try:
                texts = {name: row[name].strip() for name in COLUMNS}
                numbers = {name: float(texts.pop(name)) for name in ("parameters", "train_share", "percent")}
            except (KeyError, AttributeError, ValueError) as error:
                raise ValueError(
                    f"{path}:{line}: {error}; its columns are {', '.join(COLUMNS)}, in plain numbers"
                ) from error
            if not texts["source"]:
                raise ValueError(f"{path}:{line}: no source; say where {numbers['percent']} was published")
            found.append(Published(**texts, **numbers))
    return tuple(found)


def crosses_text(shown: Sequence[Published]) -> str:
    """The end of a figure's caption: where its crosses come from; '' without any."""
    return f"; crosses: {'; '.join(sorted({each.source for each in shown}))}" if shown else ""
