"""The call behind `stepdistill prepare`."""

import os
from pathlib import Path
from typing import Any

from stepdistill_jax.base.messages import nearest
from stepdistill_jax.tables import TableError, looks_like_table, open_table


def is_table(source: str | os.PathLike[str]) -> bool:
    """Whether `prepare` takes a source for a file, rather than for a dataset's name."""
    return looks_like_table(str(source)) or Path(source).is_file()


def is_given(value: object) -> bool:
    """Whether a setting is anything but left out; 0 is."""
    return value is not None and value is not False


def prepare(
    source: str | os.PathLike[str],
    *,
    name: str | None = None,
    inputs: str | None = None,
    label: str | None = None,
    from_folder: str | os.PathLike[str] | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """Writes DATA/<name>/examples of a table or of a registered dataset, and returns their manifest.

    A table is described in DATA/<name>/dataset.json, so that every command finds the dataset by its name. Where it has a
    column of rationales, these are written as those of the teacher 'worked'.

    Args:
      source: a file (csv, tsv, txt, jsonl, json, parquet, all but the last also .gz); or the name of a dataset of tasks/, or
        't5_vocabulary'.
      name: of the table's dataset; None takes the file's.
      inputs, label: see `TableSettings`; a table needs them.
      from_folder: where a registered dataset's published files lie; None downloads them.
      data_dir: prepared data; see `datasets.data_dir`.
      settings: further ones of a table, as `TableSettings` has them.

    Raises:
      FolderInUse: if another process prepares it.
      ValueError: one line: what is wrong with the table, with file and line, or with the settings.
    """
    from stepdistill_jax import datasets
    from stepdistill_jax.launching import task_modules

    if not is_table(source):
        flags = {"name": name, "inputs": inputs, "label": label, **settings}
        given = [key for key, value in flags.items() if is_given(value)]
        if given:
            raise ValueError(f"{source}: --{given[0]} is a table's, and {source} is no file; name the table.")
        task_modules.load_tasks(data_dir)
        return datasets.prepare(str(source), from_folder=from_folder, data_dir=data_dir)
    if from_folder is not None:
        raise ValueError(f"--from {from_folder}: {source} is a table, and needs no other folder.")
    return _prepare_table(Path(source), name, inputs, label, data_dir, settings)


def _prepare_table(
    file: Path,
    name: str | None,
    inputs: str | None,
    label: str | None,
    data_dir: str | os.PathLike[str] | None,
    settings: dict[str, Any],
) -> dict[str, Any]:
    from stepdistill_jax import teacher
    from stepdistill_jax.datasets.tabular.making import prepare_table
    from stepdistill_jax.datasets.tabular.settings import TableSettings
    from stepdistill_jax.launching import task_modules

    if inputs is None or label is None:
        raise TableError(_columns_wanted(file, settings))
    unknown = sorted(set(settings) - set(TableSettings.__dataclass_fields__))
    if unknown:
        hint = nearest(unknown[0], TableSettings.__dataclass_fields__)
        raise TypeError(f"prepare: no setting '{unknown[0]}'{hint}.")
    chosen = TableSettings(name=name or _name_of(file), file=file, inputs=inputs, label=label, **settings)
    task_modules.load_descriptions()  # whose names are taken
    manifest = prepare_table(chosen, data_dir=data_dir)
    if chosen.rationale is not None:
        teacher.teach(chosen.name, teacher="worked", data_dir=data_dir)
    return manifest


def _columns_wanted(file: Path, settings: dict[str, Any]) -> str:
    table = open_table(file, encoding=settings.get("encoding"), delimiter=settings.get("delimiter"))
    named = ", ".join(map(repr, table.columns))
    return (
        f"{file}: say what is read and what is answered: --inputs '{{COLUMN}}\\n{{COLUMN}}' --label COLUMN; its columns are "
        f"{named}."
    )


def _name_of(file: Path) -> str:
    """'tickets' of tickets.csv.gz."""
    return file.name.partition(".")[0].lower().replace("-", "_").replace(" ", "_")
