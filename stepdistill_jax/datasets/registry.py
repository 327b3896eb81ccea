"""What a dataset is: where its rows come from, how a row becomes an example, how answers are compared.

A file in tasks/ builds one `Dataset` and calls `register` with it; everything else is found by the dataset's name.
"""

import dataclasses
import difflib
import importlib
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from stepdistill_jax.datasets import equations

SPLITS = ("train", "validation", "test")


@dataclasses.dataclass(frozen=True)
class Fields:
    """What the method needs of one row. `label` is None where the row has no gold label.

    Attributes:
      inputs: the text that the student reads, without a task prefix.
      label: the text that it should answer.
      choices: the labels that this row allows; () if any text is.
      explanation: a human's explanation or a worked solution; '' if there is none.
    """

    inputs: str
    label: str | None
    choices: tuple[str, ...] = ()
    explanation: str = ""


@dataclasses.dataclass(frozen=True)
class Example:
    """One prepared example.

    Attributes:
      example_id: '<dataset>/<split>/<source_row>', unique in the dataset; 'u<n>' stands for an unknown source row.
      split: of the paper.
      source_split: of the published files; validation examples of SVAMP and CQA come out of 'train'.
      source_row: 0-based row of that split as published, -1 if not known. Recorded completions are found by it.
    """

    example_id: str
    dataset: str
    split: str
    inputs: str
    label: str | None
    source_split: str
    source_row: int
    choices: tuple[str, ...] = ()
    explanation: str = ""


@dataclasses.dataclass(frozen=True)
class CompletionFormat:
    """How a teacher's few-shot completion of this dataset is read.

    'Oxford Street is in Europe. So the answer is entailment.\\n\\nPremise: Another…' is cut at `next_question`, where the
    teacher goes on to invent another question, and split at `answer_marker` into rationale and answer text.

    Attributes:
      answer_marker: stands between rationale and answer.
      next_question: how an invented next question begins.
      label_pattern: regular expression searched for in the answer text (DOTALL); group 1 is the label.
      allowed_labels: if given, any other label counts as unparsed.
      single_marker: whether a completion with several markers before the next question is unparsed (the authors' rule
        for all datasets but e-SNLI, where the first marker counts).
    """

    answer_marker: str = "So the answer is"
    next_question: str = "Q:"
    label_pattern: str = r"\A\s*(.+?)\s*\.?\s*\Z"
    allowed_labels: tuple[str, ...] = ()
    single_marker: bool = True

    def label_of(self, answer_text: str) -> str | None:
        """The label in the text behind the marker, None if there is none (or not one of `allowed_labels`)."""
        match = re.search(self.label_pattern, answer_text, re.DOTALL)
        if match is None or not match[1].strip():
            return None
        label = match[1].strip()
        return label if not self.allowed_labels or label in self.allowed_labels else None


@dataclasses.dataclass(frozen=True)
class Download:
    """A file of the dataset's public home. Archives (.zip) are unpacked beside it; sha256 None is not checked."""

    url: str
    sha256: str | None = None


FileNames = str | tuple[str | tuple[str, ...], ...]


@dataclasses.dataclass(frozen=True)
class Dataset:
    """One dataset. Only `name`, `to_example` and one source (`files`, `generate`) are needed.

    Attributes:
      name: names the folder under DATA and begins the SeqIO task names.
      to_example: a row of the file (a dict) -> Fields. What it raises is reported with file and line.
      files: published split -> file name in the source folder (.json, .jsonl, .csv, .xml, each also as .gz). A tuple gives
        alternatives, the first that is there is read; a tuple inside it is files one behind the other.
      undivided: (file name, function from row count to {split: row numbers}) for a set that is published in one piece;
        read if no file of `files` is there.
      joins: file -> file whose rows, found by the same 'id', are merged into its rows.
      downloads: file name -> its public home; `prepare` fetches them if no folder is named.
      tfds: TFDS builder and its splits, e.g. ('anli/r1', {'train': 'train', …}): what is read where no home answers.
      generate: split -> rows, for a dataset that is made rather than read.
      held_out: fraction of published train that becomes validation, cut as the authors do (splits.hold_out).
      expected_counts: split -> rows of the full dataset; another count marks the split partial.
      metric: 'text', exact match, or 'equation', equal value.
      vocabulary: 't5', or 'embedded' for the small one that the package holds.
      default_teacher: whose rationales are read unless $STEPDISTILL_TEACHER names another.
    """

    name: str
    to_example: Callable[[Mapping[str, Any]], Fields]
    files: Mapping[str, FileNames] = dataclasses.field(default_factory=dict)
    undivided: tuple[str, Callable[[int], Mapping[str, Iterable[int]]]] | None = None
    joins: Mapping[str, str] = dataclasses.field(default_factory=dict)
    downloads: Mapping[str, Download] = dataclasses.field(default_factory=dict)
    tfds: tuple[str, Mapping[str, str]] | None = None
    generate: Callable[[str], Iterable[Mapping[str, Any]]] | None = None
    held_out: float = 0.0
    expected_counts: Mapping[str, int] = dataclasses.field(default_factory=dict)
    metric: str = "text"
    completion: CompletionFormat = CompletionFormat()
    vocabulary: str = "t5"
    default_teacher: str = ""
    licence: str = "not stated"
    citation: str = ""

    def __post_init__(self):
        if not re.fullmatch(r"[a-z][a-z0-9_]*", self.name):
            raise ValueError(f"Dataset name '{self.name}' must be a-z, 0-9 and _, beginning with a letter.")
        if self.metric not in ("text", "equation"):
            raise ValueError(f"{self.name}: metric '{self.metric}' must be 'text' or 'equation'.")
        if self.vocabulary not in ("t5", "embedded"):
            raise ValueError(f"{self.name}: vocabulary '{self.vocabulary}' must be 't5' or 'embedded'.")
        unknown = set(self.files) - set(SPLITS)
        if unknown:
            raise ValueError(f"{self.name}: files has splits {sorted(unknown)}; splits are {list(SPLITS)}.")
        if not self.files and self.generate is None:
            raise ValueError(f"{self.name}: give files={{'train': 'train.jsonl', …}} or generate=….")

    @property
    def source_splits(self) -> tuple[str, ...]:
        """The published splits."""
        return tuple(split for split in SPLITS if split in self.files or (self.generate and not self.files))

    @property
    def splits(self) -> tuple[str, ...]:
        """The paper's splits, which the SeqIO tasks have."""
        published = self.source_splits
        return tuple(s for s in SPLITS if s in published or (s == "validation" and self.held_out))


_DATASETS: dict[str, Dataset] = {}


def register(dataset: Dataset) -> Dataset:
    """Makes the dataset known by its name, and gives it back. The same name twice is the file read twice, or an error."""
    known = _DATASETS.get(dataset.name)
    if known is not None and known.to_example.__module__ != dataset.to_example.__module__:
        raise ValueError(
            f"Dataset '{dataset.name}' is registered by {known.to_example.__module__} already; "
            f"choose another name in {dataset.to_example.__module__}."
        )
    _DATASETS[dataset.name] = dataset
    return dataset


def names() -> tuple[str, ...]:
    """The registered names, sorted."""
    return tuple(sorted(_DATASETS))


def get(name: str) -> Dataset:
    """The dataset of that name; a ValueError names the nearest."""
    if name not in _DATASETS:
        raise ValueError(f"No dataset '{name}'; {_nearest(name, names(), 'import tasks')}")
    return _DATASETS[name]


def load_tasks() -> tuple[str, ...]:
    """Imports the `tasks` package, so that its datasets and their SeqIO tasks are registered; gives their names."""
    try:
        importlib.import_module("tasks")
    except ModuleNotFoundError as error:
        if error.name != "tasks":
            raise
        raise ValueError(
            "No package 'tasks' to import; run from the repository's root, or put it on PYTHONPATH."
        ) from error
    return names()


def _nearest(name: str, known: Iterable[str], remedy: str) -> str:
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.0)
    return f"nearest '{near[0]}'." if near else f"none is registered: {remedy} first."


def check_task_name(name: str) -> str:
    """The name, if SeqIO knows a task or mixture of it; a ValueError names the nearest."""
    import seqio

    known = {*seqio.TaskRegistry.names(), *seqio.MixtureRegistry.names()}
    if name not in known:
        raise ValueError(
            f"No task '{name}'; {_nearest(name, sorted(known), 'import tasks')} Tasks register on `import tasks`."
        )
    return name


def data_dir(explicit: str | os.PathLike | None = None) -> Path:
    """DATA: what is given, else $STEPDISTILL_DATA_DIR, else T5X's --tfds_data_dir (as SeqIO holds it), else ./data."""
    if explicit:
        return Path(explicit)
    if os.environ.get("STEPDISTILL_DATA_DIR"):
        return Path(os.environ["STEPDISTILL_DATA_DIR"])
    seqio_utils = sys.modules.get("seqio.utils")  # not imported for this: it takes seconds
    override = getattr(seqio_utils, "_TFDS_DATA_DIR_OVERRIDE", None)  # SeqIO has a setter, but no getter
    return Path(override or "data")


def labels_match(dataset: Dataset | str, predicted: str | None, gold: str | None) -> bool:
    """Whether a prediction counts as right: the same text, or for 'equation' datasets the same value. Never raises.

    A gold label that is no equation ('Yes', '6:7' in ASDiv) is compared as text.
    """
    if not isinstance(predicted, str) or not isinstance(gold, str) or not gold.strip():
        return False
    dataset = get(dataset) if isinstance(dataset, str) else dataset
    if dataset.metric == "equation":
        value = equations.evaluate(gold)
        if value is not None:
            return equations.values_match(equations.evaluate(predicted), value)
    return predicted.strip() == gold.strip()
