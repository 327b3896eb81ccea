"""What a dataset is: its rows, splits and metric, and the types that a task file is written with."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

SPLITS = ("train", "validation", "test")

# The task of a target token, as SeqIO features and the loss name it; 0 is padding.
LABEL_TASK_ID = 1

RATIONALE_TASK_ID = 2


@dataclasses.dataclass(frozen=True)
class Fields:
    """What a row says, in text.

    Attributes:
      inputs: what the student and the teacher read, without a task prefix.
      label: what the student is to answer; None where no gold label is published.
      choices: the answers there are, if the row names them.
      explanation: a human's or a worked solution, '' if there is none.
    """

    inputs: str
    label: str | None
    choices: tuple[str, ...] = ()
    explanation: str = ""


@dataclasses.dataclass(frozen=True)
class Example:
    """An example of one of the paper's splits.

    Attributes:
      example_id: '<dataset>/<split>/<source row>'.
      source_split: the published file's split; validation rows of SVAMP and CQA come from 'train'.
      source_row: its row there, from 0, which aligns recorded completions; -1 where it is not known.
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
    """How a teacher's completion is read: rationale, answer marker, label, and often an invented next question.

    Attributes:
      answer_marker: stands between rationale and label.
      next_question: what a question begins with; the completion is cut there.
      label_pattern: of recorded completions alone: searched for in the text behind the marker, line breaks included; its
        group 1 is the label. A language model's labels are read whole.
    """

    answer_marker: str = "So the answer is"
    next_question: str = "Q:"
    label_pattern: str = r"^\s*(.+?)\.?\s*$"


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A dataset, as a file of tasks/ registers it. Only `name`, `to_example` and one of files, home, rows are needed.

    Attributes:
      name: lower case; tasks are called '<name>_label', '<name>_rationale', '<name>_step_by_step'.
      to_example: a row of a file, as a mapping, to its text. A KeyError or ValueError names the row as malformed.
      files: split -> files below the folder of `prepare --from`, in order; '.gz' may be added to any. .json (an array, or
        an object a line), .jsonl, .csv, .xml (rows are the elements `Problem`).
      home: split -> public URLs of such files, in order; 'URL#member' names a file of a zip archive. The split 'all' is
        cut by `cut_all`.
      full_files: split -> file that is read in the place of `files` where the folder has it: `files` may be a part of it.
      home_joins: split -> URL of rows that are merged, by 'id', into the rows of `home`, whose order stays.
      home_sha256: URL (without '#member') -> checksum of the download; others are not checked.
      rows: split -> rows, for a dataset that is made rather than read.
      cut_all: cuts the rows of a file that holds them 'all' into the published splits; rows are then numbered anew.
      split_rows: the published splits' rows to the paper's; None where they are the same.
      metric: 'text' scores an exact match, 'equation' an equal value.
      completion: how the teacher's answers are read.
      choices: the labels that there are, where every row has the same ones; () where a row names its own, or any text may
        be a label.
      inputs: of a dataset that is a table, the template of its columns (`tables.Inputs`).
      instruction: what a teacher without a prompt file is told to do; '' tells it the choices.
      label_words: label -> what the student writes for it, where the label itself is not to be written (`spelling`).
      default_teacher: the folder below rationales/ that tasks read; '' is the only one.
      expected_counts: rows of the paper's splits; a split with another number is said to be partial.
      shared_questions: why questions of validation or test are in the training data, where the data's authors have put them
        there; training says so then, where else it refuses. '' where none is.
      embedded: whether the embedded vocabulary is used, rather than T5's.
      licence, homepage: of the data.
    """

    name: str
    to_example: Callable[[Mapping[str, Any]], Fields]
    files: Mapping[str, str | Sequence[str]] = dataclasses.field(default_factory=dict)
    home: Mapping[str, str | Sequence[str]] = dataclasses.field(default_factory=dict)
    full_files: Mapping[str, str] = dataclasses.field(default_factory=dict)
    home_joins: Mapping[str, str] = dataclasses.field(default_factory=dict)
    home_sha256: Mapping[str, str] = dataclasses.field(default_factory=dict)
    rows: Callable[[str], Sequence[Mapping[str, Any]]] | None = None
    cut_all: Callable[[Sequence[Any]], Mapping[str, Sequence[Any]]] | None = None
    split_rows: Callable[[Mapping[str, Sequence[Any]]], Mapping[str, Sequence[Any]]] | None = None
    metric: str = "text"
    completion: CompletionFormat = CompletionFormat()
    choices: tuple[str, ...] = ()
    inputs: str = ""
    instruction: str = ""
    label_words: Mapping[str, str] = dataclasses.field(default_factory=dict)
    default_teacher: str = "palm-540b"
    expected_counts: Mapping[str, int] = dataclasses.field(default_factory=dict)
    shared_questions: str = ""
    embedded: bool = False
    licence: str = "not stated"
    homepage: str = ""

    def __post_init__(self) -> None:
        if not self.name.isidentifier() or self.name != self.name.lower():
            raise ValueError(f"Dataset name {self.name!r}: use lower-case letters, digits and _.")
        if self.metric not in ("text", "equation"):
            raise ValueError(f"Dataset {self.name}: metric={self.metric!r}; use 'text' or 'equation'.")
        unknown = sorted({*self.files, *self.home} - {*SPLITS, "all"})
        if unknown:
            raise ValueError(
                f"Dataset {self.name}: no splits {unknown}; a split is one of {list(SPLITS)}, or 'all' with cut_all."
            )
        if "all" in {*self.files, *self.home} and self.cut_all is None:
            raise ValueError(
                f"Dataset {self.name}: the split 'all' needs cut_all=…, which cuts its rows into train, validation and test."
            )
        if len(self.choices) == 1 or len(set(self.choices)) < len(self.choices):
            raise ValueError(
                f"Dataset {self.name}: choices={self.choices}; give two labels or more, each once."
            )
        words = list(self.label_words.values())
        if not all(isinstance(word, str) and word.strip() for word in words) or len(set(words)) < len(words):
            raise ValueError(
                f"Dataset {self.name}: label_words={dict(self.label_words)}; give every label a text of its own."
            )
        if not self.files and not self.home and self.rows is None:
            raise ValueError(
                f"Dataset {self.name}: give files={{'train': ['train.jsonl'], …}}, home=… or rows=…."
            )

    @property
    def splits(self) -> tuple[str, ...]:
        """The paper's splits that the dataset has."""
        if self.rows is not None:
            return SPLITS
        published = {*self.files, *self.home}
        return tuple(
            s for s in SPLITS if s in published or (s == "validation" and self.split_rows is not None)
        )
