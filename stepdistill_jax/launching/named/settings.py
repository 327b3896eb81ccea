"""What a run by names is told: the flags of `stepdistill train NAME`, and the command that says the same again."""

import argparse
import ast
import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

DEFAULT_METHOD = "step_by_step"


@dataclasses.dataclass(frozen=True)
class Settings:
    """A run by names. None is what the user leaves to us; `planning.plan` puts a value in its place.

    Attributes:
      dataset: as `prepare` calls it.
      student: a file of gin/models, or the path of a gin file of that kind.
      begin: a checkpoint, a folder of some, or 'scratch'.
      method: a row of base/methods.py that is trained.
      teacher: a folder below DATA/<dataset>/rationales.
      share: of the train split, in (0, 1].
      rationale_weight: λ of Eq. 3.
      steps, epochs: one of them at most; an epoch is a pass over the training examples.
      batch_size: packed rows of a step.
      learning_rate: at its peak.
      early_stopping: looks at the validation split without a rise, after which the run stops.
      eval_period: steps between such looks, at each of which is saved.
      inputs_length, targets_length: of a row, in tokens; what is longer is cut.
      prefixes: 'paper' or 'code'.
      seed: of parameters, order, dropout and subset.
      output: the run's folder.
      gin_files: read behind all of this.
      bindings: 'NAME = VALUE', read last.
    """

    dataset: str
    student: str | None = None
    begin: str | None = None
    method: str = DEFAULT_METHOD
    teacher: str | None = None
    share: float = 1.0
    rationale_weight: float | None = None
    steps: int | None = None
    epochs: float | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    early_stopping: int | None = None
    eval_period: int | None = None
    inputs_length: int | None = None
    targets_length: int | None = None
    prefixes: str | None = None
    seed: int = 0
    output: Path | None = None
    gin_files: tuple[str, ...] = ()
    bindings: tuple[str, ...] = ()


# Field -> (flag, type, name of its value, help), in the order of --help and of a command.
_FLAGS: dict[str, tuple[str, Any, str, str]] = {
    "student": ("--student", str, "NAME", "a network of gin/models, such as t5_1_1_small; or its gin file"),
    "begin": (
        "--from",
        str,
        "CHECKPOINT",
        "a checkpoint to begin with, or a folder of some (stepdistill convert makes one); 'scratch' for random parameters",
    ),
    "method": ("--method", str, "NAME", f"step_by_step, fine_tuning … (default {DEFAULT_METHOD})"),
    "teacher": ("--teacher", str, "NAME", "whose rationales (default the only ones there are)"),
    "share": ("--share", float, "SHARE", "of the training examples, in (0, 1] (default 1)"),
    "rationale_weight": ("--rationale_weight", float, "λ", "of the rationales' loss (default 1)"),
    "steps": ("--steps", int, "N", "to train"),
    "epochs": ("--epochs", float, "N", "passes over the training examples, in place of --steps"),
    "batch_size": ("--batch_size", int, "ROWS", "of a step; a row holds as many examples as fit"),
    "learning_rate": ("--learning_rate", float, "RATE", "at its peak"),
    "early_stopping": (
        "--early_stopping",
        int,
        "N",
        "stop when N looks at the validation split in a row were no better than the one before",
    ),
    "eval_period": ("--eval_period", int, "STEPS", "between looks at the validation split"),
    "inputs_length": ("--inputs_length", int, "TOKENS", "of a row; longer inputs are cut (default by the data)"),
    "targets_length": ("--targets_length", int, "TOKENS", "of a row (default by the data)"),
    "prefixes": ("--prefixes", str, "paper|code", "which words name the task before an input (default paper)"),
    "seed": ("--seed", int, "N", "of parameters, order, dropout and the share (default 0)"),
    "output": ("--output", Path, "RUN", "the run's folder (default runs/NAME)"),
}  # fmt: skip


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds NAME and the flags of a run by names, and --again; what is not given is None."""
    parser.add_argument(
        "dataset", nargs="?", metavar="NAME", help="a prepared dataset; without it --gin_file says all"
    )
    for field, (flag, kind, metavar, text) in _FLAGS.items():
        parser.add_argument(flag, dest=field, type=kind, metavar=metavar, help=text)
    parser.add_argument(
        "--set",
        dest="set_bindings",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="any other setting of gin, e.g. --set DROPOUT_RATE=0 (gin/student.gin has their names)",
    )
    parser.add_argument(
        "--again",
        type=Path,
        metavar="RUN",
        help="with the settings of a run: goes on with it, or does it anew with --output and other flags",
    )


def given(args: argparse.Namespace) -> dict[str, Any]:
    """The settings that the command line names, by the fields of `Settings`."""
    values = {field: getattr(args, field) for field in _FLAGS if getattr(args, field) is not None}
    bindings = (*args.gin_bindings, *map(_binding, args.set_bindings))
    return {
        **values,
        **({"gin_files": tuple(args.gin_file)} if args.gin_file else {}),
        **({"bindings": bindings} if bindings else {}),
    }


def flags_of(fields: Iterable[str]) -> list[str]:
    """Their flags, for an error."""
    return [_FLAGS[field][0] for field in fields if field in _FLAGS]


def command_of(settings: Settings, *, data_dir: str | None = None) -> list[str]:
    """The command that says these settings, whole: what `Settings` leaves open stays open."""
    words = ["stepdistill", "train", settings.dataset]
    for field, (flag, *_) in _FLAGS.items():
        value = getattr(settings, field)
        if value is not None:
            words += [flag, str(value)]
    words += [f"--gin_file={file}" for file in settings.gin_files]
    for binding in settings.bindings:
        name, _, value = binding.partition("=")
        words += ["--set", f"{name.strip()}={value.strip()}"]
    return words if data_dir is None else [*words, f"--data_dir={data_dir}"]


def is_command_of_names(words: Sequence[str]) -> bool:
    """Whether a command is one of these: `stepdistill train NAME …`."""
    return list(words[:2]) == ["stepdistill", "train"] and len(words) > 2 and not words[2].startswith("-")


def _binding(text: str) -> str:
    """'NAME=VALUE' as gin reads it: what is no value of gin's is text, so that --set TEACHER=gpt needs no quotes.

    Raises:
      ValueError: if there is no name or no value.
    """
    name, _, value = (part.strip() for part in text.partition("="))
    if not name or not value:
        raise ValueError(f"--set {text}: write NAME=VALUE, e.g. --set {name or 'DROPOUT_RATE'}=0.")
    return f"{name} = {value if value[0] in '@%' or _is_literal(value) else repr(value)}"


def _is_literal(value: str) -> bool:
    try:
        ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return False
    return True
