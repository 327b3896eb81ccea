"""Training as settings say: prints the gin that they stand for, then does what it says."""

import argparse
import dataclasses
import os
from pathlib import Path
from typing import Any

from stepdistill_jax.base import locations
from stepdistill_jax.base.environment import set_for_a_while
from stepdistill_jax.base.messages import nearest
from stepdistill_jax.base.visible import visible
from stepdistill_jax.engine.loop import command_line
from stepdistill_jax.launching.named.gin_text import Plan, gin_text
from stepdistill_jax.launching.named.settings import Settings, command_of


def train(
    dataset: str,
    *,
    student: str | None = None,
    begin: str | os.PathLike[str] | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    **settings: Any,
) -> Path:
    """Trains a student, as `stepdistill train NAME` does, and returns the run's folder.

    Args:
      dataset: a prepared dataset.
      student: a network of gin/models, such as 't5_1_1_small', or the path of its gin file.
      begin: a checkpoint, a folder of some, or 'scratch'.
      data_dir: prepared data.
      **settings: the other fields of `Settings`: method, teacher, share, rationale_weight, steps or epochs, batch_size,
        learning_rate, early_stopping, eval_period, inputs_length, targets_length, prefixes, seed, output, gin_files, bindings.

    Raises:
      ValueError, FileNotFoundError: one line that names the setting that can't be, and the mend.
      TypeError: for a setting that there is not.
    """
    known_settings = [field.name for field in dataclasses.fields(Settings)]
    if unknown := sorted(settings.keys() - set(known_settings)):
        raise TypeError(f"train: no setting '{unknown[0]}'{nearest(unknown[0], known_settings)}.")
    if settings.get("output") is not None:
        settings["output"] = Path(settings["output"])
    begin = None if begin is None else os.fspath(begin)
    with set_for_a_while(STEPDISTILL_DATA_DIR=data_dir):
        known = _planned(Settings(dataset, student, begin, **settings), data_dir)
        _do(known, data_dir)
    return known.settings.output


def train_as_told(settings: Settings, args: argparse.Namespace) -> None:
    """The same for the command line: `args` has T5X's flags, of which several hosts' and --dry_run matter here."""
    from stepdistill_jax.engine.cluster import distributed

    if args.gin_search_paths != ".":
        raise ValueError(
            f"--gin_search_paths={args.gin_search_paths} goes with gin files alone; give their whole paths."
        )
    data_dir = args.tfds_data_dir
    with distributed.joined(args), set_for_a_while(STEPDISTILL_DATA_DIR=data_dir):
        known = _planned(settings, data_dir)
        print(visible(gin_text(known)), flush=True)
        _do(known, data_dir, dry_run=args.dry_run)


def _do(known: Plan, data_dir: str | os.PathLike[str] | None, *, dry_run: bool = False) -> None:
    """Trains, or only checks all that training would before it reads data."""
    from stepdistill_jax.launching import launch
    from stepdistill_jax.launching.named import planning, rehearsal

    with planning.gin_file(known) as file, command_line.standing_for(_command(known, data_dir)):
        files = [file, *known.settings.gin_files]
        launch.read_config(files, known.settings.bindings, data_dir=data_dir)
        launch.configured(rehearsal.check_planned, known)
        if dry_run:
            launch.configured(rehearsal.rehearse)
        else:
            launch.call("train", files, known.settings.bindings, data_dir=data_dir)


def _planned(settings: Settings, data_dir: str | os.PathLike[str] | None) -> Plan:
    import gin

    from stepdistill_jax.base import quiet
    from stepdistill_jax.engine.hardware.present_devices import check_devices
    from stepdistill_jax.launching import launch, task_modules
    from stepdistill_jax.launching.named import planning

    planning.check_numbers(settings)
    check_devices()
    quiet.import_tensorflow()
    task_modules.load_tasks()
    gin.clear_config()  # what an earlier run in this process was told
    return launch.configured(planning.plan, settings, data_dir=data_dir)


def _command(known: Plan, data_dir: str | os.PathLike[str] | None) -> list[str]:
    return command_of(known.settings, data_dir=str(locations.data_dir(data_dir)))
