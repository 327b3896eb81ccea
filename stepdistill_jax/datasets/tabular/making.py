"""A table into DATA/<name>: its examples, and the description by which everyone finds them."""

import dataclasses
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from stepdistill_jax.base.visible import is_damaged, shortened, spelled
from stepdistill_jax.base.whole_files import file_sha256
from stepdistill_jax.datasets import described, preparation, record_io, registry, sources
from stepdistill_jax.datasets.dataset import SPLITS, CompletionFormat, Dataset, Example
from stepdistill_jax.datasets.tabular import classes, cutting
from stepdistill_jax.datasets.tabular.reading import ReadTable, TextRow, lines_text, places_text, read_table
from stepdistill_jax.datasets.tabular.settings import TableSettings
from stepdistill_jax.tables import TableError

# Labels of any spelling come back whole; a rationale may say 'FAQ: …'.
COMPLETION = CompletionFormat("Answer:", "\nQ:", r"^\s*(.+?)\s*$")
_OWN_FOLDERS = ("vocabularies", "token_cache", "downloads")  # of DATA
_SHOWN = 5  # texts in a message
_SHOWN_CHARACTERS = 60  # of a text there


def prepare_table(
    settings: TableSettings, *, data_dir: str | os.PathLike[str] | None = None
) -> dict[str, Any]:
    """Writes DATA/<name>/examples and DATA/<name>/dataset.json; the same table again changes nothing.

    Returns:
      The manifest of the examples, with `vocabulary_notes` as `preparation.prepare` has them, the `labels` of the training
      rows with their counts (none of open text), and the `first` training row.

    Raises:
      FolderInUse: if another process prepares it.
      TableError: names file and line of what is wrong, or the labels that are; nothing is then written.
      ValueError: if the name is that of another dataset.
    """
    _check_name(settings.name, data_dir)
    with preparation.writing(settings.name, data_dir):
        read = _read_files(settings)
        given = _merged(_given_splits(read, settings), settings)
        choices = classes.choices_of(given, settings)
        splits = _with_cut_splits(given, settings, stratified=bool(choices))
        dataset = _dataset(settings, splits, choices)
        notes = [*_reading_notes(read), *_merging_notes(read, settings)]
        notes += [*classes.notes_on(given, choices, settings), *_text_notes(given)]
        notes += _cut_notes(given, splits, settings)
        manifest = preparation.write_examples(
            dataset,
            {split: _examples(dataset, split, splits[split], read) for split in splits},
            _source(settings, read),
            data_dir=data_dir,
            notes=notes,
        )
        facts = _facts(settings, read, given, splits, choices, manifest)
        described.write_description(described.path_of(settings.name, data_dir), dataset, facts)
    first = splits["train"][0]
    return {
        **manifest,
        "labels": dict(classes.counts_of(splits["train"])) if choices else {},
        "first": {"inputs": first.inputs, "label": first.label},
    }


def _check_name(name: str, data_dir: str | os.PathLike[str] | None) -> None:
    if name in _OWN_FOLDERS:
        raise ValueError(f"--name {name}: DATA keeps something else under that name; choose another one.")
    if name in registry.registered():
        raise ValueError(f"--name {name}: a dataset of a Python file has that name; choose another one.")
    folder = preparation.examples_folder(name, data_dir)
    # Examples of a table may lack their description, after a kill.
    if folder.exists() and "inputs" not in (record_io.read_manifest(folder) or {}):
        raise ValueError(
            f"--name {name}: {folder} is there, and was not made of a table; choose another name, or move it away."
        )


def _read_files(settings: TableSettings) -> dict[str, ReadTable]:
    """'train', and 'validation' and 'test' where files give them."""
    files = {"train": settings.file, "validation": settings.validation, "test": settings.test}
    read = {
        role: read_table(path, settings, flag="" if role == "train" else f"--{role}")
        for role, path in files.items()
        if path is not None
    }
    if settings.rationale is not None and not any(row.rationale for row in read["train"].rows):
        raise TableError(f"--rationale {settings.rationale}: {settings.file} has no text in that column.")
    return read


def _given_splits(read: Mapping[str, ReadTable], settings: TableSettings) -> dict[str, list[TextRow]]:
    """The splits that files or a column give."""
    if settings.split is None:
        return {role: table.rows for role, table in read.items()}
    rows = read["train"].rows
    splits = {split: [row for row in rows if row.split == split] for split in SPLITS}
    if not splits["train"]:
        raise TableError(f"--split {settings.split}: {settings.file} has no row of 'train'.")
    return {split: part for split, part in splits.items() if part}


def _merged(splits: Mapping[str, Sequence[TextRow]], settings: TableSettings) -> dict[str, list[TextRow]]:
    """With labels that are alike made one, if that is asked for."""
    if not settings.merge_labels:
        return {split: list(rows) for split, rows in splits.items()}
    stands_for = _merging(splits.values(), settings)
    return {
        split: [dataclasses.replace(row, label=stands_for.get(row.label, row.label)) for row in rows]
        for split, rows in splits.items()
    }


def _merging(parts: Iterable[Sequence[TextRow]], settings: TableSettings) -> dict[str, str]:
    """Label -> the one that stands for it."""
    labels = classes.counts_of(row for rows in parts for row in rows)
    return classes.merging(labels, settings.choices or ())


def _with_cut_splits(
    given: Mapping[str, list[TextRow]], settings: TableSettings, *, stratified: bool
) -> dict[str, list[TextRow]]:
    """All splits: those that are not given are cut from train."""
    missing = [split for split in SPLITS if split not in given] if settings.holdout else []
    if not missing:
        _check_cut_settings(settings)
    parts = cutting.cut(
        given["train"], missing, share=settings.holdout, seed=settings.seed, stratified=stratified
    )
    every = {**given, **parts}
    return {split: every[split] for split in SPLITS if split in every}


def _check_cut_settings(settings: TableSettings) -> None:
    """Checks that nothing says how to cut where nothing is cut."""
    why = (
        "--holdout 0 cuts nothing"
        if not settings.holdout
        else "validation and test are given, so nothing is cut"
    )
    for name in ("seed", "holdout"):
        value = getattr(settings, name)
        if value and value != getattr(TableSettings, name):
            raise TableError(f"--{name} {value:g}: {why}; leave it out.")


def _dataset(
    settings: TableSettings, splits: Mapping[str, Sequence[TextRow]], choices: tuple[str, ...]
) -> Dataset:
    unknown = [label for label in settings.label_words if choices and label not in choices]
    if unknown:
        raise TableError(f"--label_word {unknown[0]}=…: no row has that label.")
    labels = {row.label for rows in splits.values() for row in rows}.union(choices)
    for label, word in settings.label_words.items():
        if word in labels - settings.label_words.keys():
            raise TableError(
                f"--label_word {label}={word}: {word!r} is another label; give a word that is none."
            )
    return Dataset(
        name=settings.name,
        to_example=described.from_table,
        files={split: str(settings.file) for split in splits},
        metric=settings.metric,
        completion=COMPLETION,
        choices=choices,
        inputs=settings.template.template,
        instruction=settings.instruction,
        label_words=settings.label_words,
        default_teacher="",
        licence=settings.licence,
        homepage=settings.homepage,
    )


def _examples(
    dataset: Dataset, split: str, rows: Sequence[TextRow], read: Mapping[str, ReadTable]
) -> list[Example]:
    role = split if split in read else "train"
    return [
        Example(
            example_id=f"{dataset.name}/{split}/{row.number if row.id is None else row.id}",
            dataset=dataset.name,
            split=split,
            inputs=row.inputs,
            label=row.label,
            source_split=role,
            source_row=row.number,
            choices=dataset.choices,
            explanation=row.rationale,
        )
        for row in rows
    ]


def _source(settings: TableSettings, read: Mapping[str, ReadTable]) -> sources.Source:
    paths = {role: table.table.path for role, table in read.items()}
    return sources.Source(
        description=", ".join(dict.fromkeys(map(str, paths.values()))),
        rows={},
        sha256={f"{role}: {path.name}": file_sha256(path) for role, path in paths.items()},
    )


def _facts(
    settings: TableSettings,
    read: Mapping[str, ReadTable],
    given: Mapping[str, Sequence[TextRow]],
    splits: Mapping[str, Sequence[TextRow]],
    choices: Sequence[str],
    manifest: Mapping[str, Any],
) -> dict[str, Any]:
    """What the description says besides the dataset itself."""
    return {
        "columns": {key: getattr(settings, key) for key in ("label", "id", "rationale", "split")},
        "splits": {
            split: {
                "rows": len(rows),
                "from": "cut" if split not in given else "column" if settings.split else "file",
                "labels": dict(classes.counts_of(rows)) if choices else None,
                "content": manifest[record_io.IDENTITY][split],
            }
            for split, rows in splits.items()
        },
        "cut": {"seed": settings.seed, "holdout": settings.holdout},
        "sources": [_told_file(role, table) for role, table in read.items()],
        "examples_sha256": manifest["examples_sha256"],
        "command": settings.command,
    }


def _told_file(role: str, read: ReadTable) -> dict[str, Any]:
    table = read.table
    return {
        "role": role,
        "file": str(table.path),
        "sha256": file_sha256(table.path),
        "format": table.format,
        "encoding": table.encoding,
        "delimiter": table.delimiter,
        "rows": len(read.rows),
        "left_out": {reason: len(lines) for reason, lines in read.left_out.items()},
    }


def _reading_notes(read: Mapping[str, ReadTable]) -> list[str]:
    notes = []
    for table in read.values():
        how = [table.table.format]
        if table.table.delimiter is not None:
            how.append(f"divided by {table.table.delimiter!r}")
        if table.table.encoding not in (None, "utf-8"):
            how.append(table.table.encoding)
        notes.append(f"{table.table.path}: {len(table.rows):,} rows ({', '.join(how)})")
        if table.doubtful:
            notes.append(
                f"{table.table.path}: {lines_text(table.doubtful)}: a quoted cell holds what look like rows of the table; was a "
                f"quote opened there, and closed by one of a later row?"
            )
        for reason, lines in table.left_out.items():
            notes.append(f"{table.table.path}: {len(lines):,} rows left out, {reason}: {lines_text(lines)}")
    return notes


def _merging_notes(read: Mapping[str, ReadTable], settings: TableSettings) -> list[str]:
    if not settings.merge_labels:
        return []
    stands_for = _merging([table.rows for table in read.values()], settings)
    return [
        f"{spelled(label)} is {spelled(kept)} (--merge_labels)"
        for label, kept in stands_for.items()
        if label != kept
    ]


def _text_notes(splits: Mapping[str, Sequence[TextRow]]) -> list[str]:
    """Of texts that stand there more than once, or with more than one label."""
    groups = cutting.groups_of(row for rows in splits.values() for row in rows)
    repeated = sum(len(group) - 1 for group in groups)
    torn = [group for group in groups if len({row.label for row in group}) > 1]
    notes = _damage_notes(row for rows in splits.values() for row in rows)
    if repeated:
        notes.append(f"{repeated:,} rows repeat the text of another; a cut keeps equal texts in one split")
    if torn:
        shown = "; ".join(_torn_text(group) for group in torn[:_SHOWN])
        more = f"; and {len(torn) - _SHOWN:,} more" if len(torn) > _SHOWN else ""
        notes.append(f"{len(torn):,} texts have more than one label: {shown}{more}")
    return notes


def _damage_notes(rows: Iterable[TextRow]) -> list[str]:
    damaged = [row for row in rows if is_damaged(row.inputs) or is_damaged(row.label)]
    if not damaged:
        return []
    first = damaged[0].label if is_damaged(damaged[0].label) else damaged[0].inputs
    return [
        f"{len(damaged):,} rows look as if they were read in a wrong encoding, or have lost characters: "
        f"{places_text(damaged)}, such as {shortened(first, _SHOWN_CHARACTERS)!r}"
    ]


def _torn_text(group: Sequence[TextRow]) -> str:
    of_one_file = len({row.path for row in group}) == 1
    said = ", ".join(
        f"{f'line {row.line}' if of_one_file else row.place} {spelled(row.label)}" for row in group[:_SHOWN]
    )
    return f"{group[0].inputs!r:.40} ({said})"


def _cut_notes(
    given: Mapping[str, Sequence[TextRow]],
    splits: Mapping[str, Sequence[TextRow]],
    settings: TableSettings,
) -> list[str]:
    made = [split for split in splits if split not in given]
    why = (
        f"{len(given['train']):,} rows are too few to cut one from, as every label keeps a row in train; give more rows"
        if settings.holdout
        else "--holdout 0 cuts none; give a share"
    )
    notes = [f"no {split} split: {why}, or --{split} FILE" for split in SPLITS if split not in splits]
    if made:
        notes.append(
            f"{' and '.join(made)} cut from the {len(given['train']):,} rows of train: --holdout {settings.holdout:g} for each, "
            f"--seed {settings.seed}"
        )
    return notes
