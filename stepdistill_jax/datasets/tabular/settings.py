"""What a table is made into, as the flags of `stepdistill prepare FILE` say it."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from stepdistill_jax.tables import Inputs, TableError

MOST_HELD_OUT = 0.4  # of the rows, each for validation and test


@dataclass(frozen=True)
class TableSettings:
    """How a table is read, checked when it is made.

    Attributes:
      name: of the dataset.
      file: the table; of its rows come train, and whatever split is not given by a file or a column.
      inputs: a template of columns, or columns (`tables.Inputs`).
      label: the column of the labels.
      validation, test: further files; None where the rows of `file` are to give that split.
      split: the column that says each row's split.
      id: the column that tells rows; None tells them by their number.
      rationale: the column that says why the label is right.
      holdout: share of the rows for each of validation and test, where these have to be cut; 0 cuts none.
      seed: of that cut.
      choices: the labels that there are; () takes all of the training rows, None does so where they are few.
      free: whether labels are open text, whatever their number.
      metric: 'text' or 'equation'.
      drop_unlabelled: whether rows without a label are left out; they are errors otherwise.
      merge_labels: whether labels that differ in case and spaces alone are one.
      allow_unseen: whether validation and test may have labels that train has not.
      skip_ragged: whether rows with too many or too few cells are left out; they are errors otherwise.
      encoding, delimiter: see `tables.open_table`.
      label_words: label -> what the student writes for it.
      instruction: what a teacher is told to do; '' tells it the choices.
      licence, homepage: of the data.
    """

    name: str
    file: Path
    inputs: str
    label: str
    validation: Path | None = None
    test: Path | None = None
    split: str | None = None
    id: str | None = None
    rationale: str | None = None
    holdout: float = 0.1
    seed: int = 0
    choices: tuple[str, ...] | None = None
    free: bool = False
    metric: str = "text"
    drop_unlabelled: bool = False
    merge_labels: bool = False
    allow_unseen: bool = False
    skip_ragged: bool = False
    encoding: str | None = None
    delimiter: str | None = None
    label_words: Mapping[str, str] = field(default_factory=dict)
    instruction: str = ""
    licence: str = "not stated"
    homepage: str = ""

    def __post_init__(self) -> None:
        if not self.name.isidentifier() or self.name != self.name.lower():
            raise TableError(f"--name {self.name}: use lower-case letters, digits and _, a letter first.")
        if not 0 <= self.holdout <= MOST_HELD_OUT:
            raise TableError(f"--holdout {self.holdout:g}: give a share from 0 (none) to {MOST_HELD_OUT:g}.")
        if self.split is not None and (self.validation or self.test):
            raise TableError(
                "--split and --validation or --test: give the splits by a column or by files, not by both."
            )
        if self.choices is not None and (self.free or self.metric == "equation"):
            other = "--free" if self.free else "--metric equation"
            raise TableError(f"--choices and {other}: labels are choices or open text; give one of the two.")
        if self.choices is not None and (
            len(set(self.choices)) < len(self.choices) or "" in map(str.strip, self.choices)
        ):
            raise TableError(
                f"--choices {' '.join(map(repr, self.choices))}: give every label once, and none that is blank."
            )
        if self.choices is not None and len(self.choices) == 1:
            raise TableError(
                f"--choices {self.choices[0]}: one label teaches nothing; give two or more with spaces between them."
            )

        self._check_columns()

    def _check_columns(self) -> None:
        """Refuses inputs that tell the label."""
        for flag in ("label", "rationale"):
            if (column := getattr(self, flag)) in self.template.columns:
                raise TableError(
                    f"--inputs {self.inputs!r} has the column {column!r} of --{flag}, which new rows lack: the student would learn "
                    f"to read its answer there; leave it out."
                )
        for flag in ("split", "rationale"):
            if getattr(self, flag) == self.label:
                raise TableError(f"--{flag} {self.label}: that is the column of --label; name another one.")

    @property
    def template(self) -> Inputs:
        return Inputs(self.inputs)

    @property
    def command(self) -> str:
        """The command line that prepares this again."""
        parts = ["stepdistill", "prepare", str(self.file), "--name", self.name]
        parts += ["--inputs", self.template.template.replace("\n", "\\n").replace("\t", "\\t")]
        parts += ["--label", self.label]
        for name in ("validation", "test", "split", "id", "rationale", "encoding", "delimiter"):
            if getattr(self, name) is not None:
                parts += [f"--{name}", str(getattr(self, name))]
        for name in ("holdout", "seed", "metric", "instruction", "licence", "homepage"):
            if getattr(self, name) != getattr(TableSettings, name):
                parts += [f"--{name}", str(getattr(self, name))]
        for name in ("free", "drop_unlabelled", "merge_labels", "allow_unseen", "skip_ragged"):
            parts += [f"--{name}"] * getattr(self, name)
        for label, word in self.label_words.items():
            parts += ["--label_word", f"{label}={word}"]
        if self.choices is not None:
            parts += ["--choices", *self.choices]
        return shlex.join(parts)
