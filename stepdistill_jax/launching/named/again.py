"""A run's settings, taken from its own folder: to go on with it, or to do it anew with some of them changed."""

import argparse
import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from stepdistill_jax.launching.named import settings as named_settings
from stepdistill_jax.launching.named.settings import Settings

# What was chosen for a setting is chosen anew where that one is changed.
_FOLLOWS = {
    "student": ("begin", "learning_rate", "batch_size", "inputs_length", "targets_length"),
    "begin": ("learning_rate",),
    "method": ("teacher", "rationale_weight", "inputs_length", "targets_length"),
    "steps": ("epochs", "eval_period"),
    "epochs": ("steps", "eval_period"),
}
Parse = Callable[[Sequence[str]], argparse.Namespace]


@dataclasses.dataclass(frozen=True)
class Again:
    """A run to be done again.

    Attributes:
      settings: of a run by names; None of one by gin files, whose config.gin says all.
      config: the run's config.gin.
      output: the folder to train in.
      data_dir: where its data lay; None where its command does not say.
    """

    settings: Settings | None
    config: Path
    output: Path
    data_dir: str | None


def read(run: Path, changes: Mapping[str, Any], parse: Parse) -> Again:
    """What RUN/run.json and RUN/config.gin say, with `changes` by the fields of `Settings`.

    Args:
      parse: reads the words behind `stepdistill train` as that command does.

    Raises:
      FileNotFoundError: if it is no run's folder.
      ValueError: if the run was told by gin files, and a change is not one of gin's.
    """
    config = run / "config.gin"
    if not config.is_file():
        raise FileNotFoundError(f"--again {run}: that is not a run's folder: it has no config.gin.")
    command = _command_of(run)
    output = changes.get("output", run)
    if not named_settings.is_command_of_names(command):
        kept = {"output", "bindings", "gin_files"}
        if other := named_settings.flags_of(name for name in changes if name not in kept):
            raise ValueError(
                f"--again {run}: it was trained by gin files, so {', '.join(other)} can't change it; --set NAME=VALUE can."
            )
        return Again(None, config, output, None)
    args = parse(command[2:])
    kept = {name: value for name, value in named_settings.given(args).items() if name not in _let_go(changes)}
    values = {**kept, **changes, "output": output}
    values["bindings"] = _bindings(kept.get("bindings", ()), changes)
    return Again(Settings(args.dataset, **values), config, output, args.tfds_data_dir)


def _let_go(changes: Mapping[str, Any]) -> set[str]:
    return {follower for name in changes for follower in _FOLLOWS.get(name, ())}


def _bindings(kept: Sequence[str], changes: Mapping[str, Any]) -> tuple[str, ...]:
    """The run's own, but for those that `changes` bind anew and the vocabulary of another student; then those of `changes`."""
    from stepdistill_jax.launching.named.students import TOKENIZER, VOCABULARY_FILE, names_its_vocabulary

    added = tuple(changes.get("bindings", ()))
    let_go = {_name(binding) for binding in added}
    if student := changes.get("student"):
        let_go |= {TOKENIZER, VOCABULARY_FILE} if names_its_vocabulary(student) else {TOKENIZER}
    return (*(binding for binding in kept if _name(binding) not in let_go), *added)


def _name(binding: str) -> str:
    return binding.partition("=")[0].strip()


def _command_of(run: Path) -> list[str]:
    path = run / "run.json"
    try:
        return [str(word) for word in json.loads(path.read_text(encoding="utf-8")).get("command", [])]
    except (OSError, ValueError) as error:
        raise FileNotFoundError(
            f"--again {run}: its run.json can't be read ({error}); name another run."
        ) from error
