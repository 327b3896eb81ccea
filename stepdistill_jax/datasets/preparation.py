"""`stepdistill prepare`: published rows to examples in TFRecords, the paper's splits row for row."""

import collections
import contextlib
import dataclasses
import functools
import hashlib
import itertools
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from stepdistill_jax.base import locations, text_fit
from stepdistill_jax.base.folder_lock import lock_beside
from stepdistill_jax.base.methods import METHODS
from stepdistill_jax.base.visible import visible
from stepdistill_jax.base.whole_files import copy_atomically, file_sha256
from stepdistill_jax.datasets import described, record_io, registry, sources
from stepdistill_jax.datasets.dataset import SPLITS, Dataset, Example, Fields
from stepdistill_jax.datasets.lineage.content import normalized
from stepdistill_jax.datasets.scoring import labels_match
from stepdistill_jax.datasets.vocabularies import known_vocabulary
from stepdistill_jax.datasets.vocabulary_files import (
    T5_VOCABULARY_SHA256,
    T5_VOCABULARY_URL,
    t5_vocabulary_path,
)

SCHEMA = {
    "example_id": record_io.TEXT,
    "dataset": record_io.TEXT,
    "split": record_io.TEXT,
    "inputs": record_io.TEXT,
    "label": record_io.TEXT,
    "has_label": record_io.BOOLEAN,
    "choices": record_io.TEXTS,
    "explanation": record_io.TEXT,
    "source_split": record_io.TEXT,
    "source_row": record_io.INTEGER,
}
T5_VOCABULARY = "t5_vocabulary"


def examples_folder(name: str, data_dir: str | os.PathLike[str] | None = None) -> Path:
    """DATA/<name>/examples."""
    return locations.data_dir(data_dir) / name / "examples"


def prepare(
    name: str,
    *,
    from_folder: str | os.PathLike[str] | None = None,
    data_dir: str | os.PathLike[str] | None = None,
) -> dict[str, Any]:
    """Writes DATA/<name>/examples and returns its manifest; the same source again changes nothing.

    What is returned has `vocabulary_notes`, too: what the student's vocabulary, where it is known, makes of the texts.

    Args:
      name: a registered dataset, or 't5_vocabulary' for T5's SentencePiece model.
      from_folder: where the published files lie; None downloads them.
      data_dir: DATA (see `locations.data_dir`).

    Raises:
      FolderInUse: if another process prepares it.
      ValueError: names file and line of a malformed row; nothing is then written.
    """
    folder = None if from_folder is None else Path(from_folder)
    if name == T5_VOCABULARY:
        return _prepare_vocabulary(folder, locations.data_dir(data_dir))
    dataset = registry.get(name, data_dir)
    if name not in registry.registered():
        again = described.read(described.path_of(name, data_dir)).get("command", "stepdistill prepare FILE")
        raise ValueError(f"{name} is made of a table; to prepare it again: {again}")
    with writing(name, data_dir):
        source = sources.read_source(
            dataset, from_folder=folder, cache=locations.data_dir(data_dir) / "downloads"
        )
        return write_examples(dataset, _examples(dataset, source), source, data_dir=data_dir)


@contextlib.contextmanager
def writing(name: str, data_dir: str | os.PathLike[str] | None) -> Iterator[None]:
    """While this holds, no other process writes the dataset's examples.

    Raises:
      FolderInUse: if another process does.
    """
    target = examples_folder(name, data_dir)
    with lock_beside(target, f"{target} (stepdistill prepare)").held():
        yield


def write_examples(
    dataset: Dataset,
    splits: Mapping[str, Sequence[Example]],
    source: sources.Source,
    *,
    data_dir: str | os.PathLike[str] | None = None,
    notes: Sequence[str] = (),
) -> dict[str, Any]:
    """Writes DATA/<name>/examples whole, unless the same is there, and gives what `prepare` returns.

    Args:
      source: what they come from; its rows are not looked at.
      notes: what a user should know besides.
    """
    name, target = dataset.name, examples_folder(dataset.name, data_dir)
    manifest = {
        "dataset": name,
        "source": source.description,
        "source_sha256": dict(source.sha256),
        "homepage": dataset.homepage,
        "licence": dataset.licence,
        "examples_sha256": record_io.sha256_of_texts(
            repr(example) for examples in splits.values() for example in examples
        ),
        "notes": [*notes, *_notes(dataset, splits)],
        **({"inputs": dataset.inputs} if dataset.inputs else {}),  # which tells that they are a table's
    }
    vocabulary_notes = _vocabulary_notes(dataset, splits)
    earlier = record_io.read_manifest(target)
    if earlier is not None and {key: earlier.get(key) for key in manifest} == manifest:
        try:
            return {**record_io.verify(target), "unchanged": True, "vocabulary_notes": vocabulary_notes}
        except ValueError as error:
            print(visible(f"{error} Doing so."), file=sys.stderr)
    written = record_io.write_records(
        target,
        name=name,
        features=SCHEMA,
        splits={split: [_record(example) for example in examples] for split, examples in splits.items()},
        manifest=manifest,
        description=f"Examples of {name}, prepared by stepdistill_jax.",
        licence=dataset.licence,
    )
    return {**written, "vocabulary_notes": vocabulary_notes}


def _examples(dataset: Dataset, source: sources.Source) -> dict[str, list[Example]]:
    """Examples of the paper's splits.

    Raises:
      ValueError: for the first malformed row, by file and line.
    """
    converted: dict[str, list[tuple[str, sources.Row, Fields]]] = {}
    for source_split, rows in _published(dataset, source).items():
        converted[source_split] = [(source_split, row, _fields(dataset, row)) for row in rows]
    splits = dataset.split_rows(converted) if dataset.split_rows is not None else converted
    examples: dict[str, list[Example]] = {}
    for split in SPLITS:
        if split not in splits:
            continue
        examples[split] = [
            Example(
                example_id=f"{dataset.name}/{split}/{row.source_row if row.source_row >= 0 else f'unnumbered-{place}'}",
                dataset=dataset.name,
                split=split,
                source_split=source_split,
                source_row=row.source_row,
                **dataclasses.asdict(fields),
            )
            for place, (source_split, row, fields) in enumerate(splits[split])
        ]
        if not examples[split]:
            raise ValueError(f"{dataset.name}/{split}: no rows in {source.description}.")
    return examples


def _published(dataset: Dataset, source: sources.Source) -> Mapping[str, Sequence[sources.Row]]:
    if "all" not in source.rows or dataset.cut_all is None:
        return source.rows
    return {
        split: [dataclasses.replace(row, source_row=number) for number, row in enumerate(rows)]
        for split, rows in dataset.cut_all(source.rows["all"]).items()
    }


def _fields(dataset: Dataset, row: sources.Row) -> Fields:
    try:
        fields = dataset.to_example(row.values)
    except KeyError as error:
        raise ValueError(
            f"{row.place}: no field {error}; it has {', '.join(map(str, row.values))}."
        ) from error
    except (ValueError, TypeError, IndexError, AttributeError) as error:
        raise ValueError(f"{row.place}: malformed: {error}") from error
    if not isinstance(fields.inputs, str) or not fields.inputs.strip():
        raise ValueError(f"{row.place}: the inputs are empty.")
    if fields.label is not None and (not isinstance(fields.label, str) or not fields.label.strip()):
        raise ValueError(f"{row.place}: the label {fields.label!r} is not a text.")
    choices = fields.choices or dataset.choices
    if choices and fields.label is not None and fields.label not in choices:
        raise ValueError(f"{row.place}: the label {fields.label!r} is none of the choices {list(choices)}.")
    return dataclasses.replace(fields, choices=choices)


def _notes(dataset: Dataset, splits: Mapping[str, Sequence[Example]]) -> list[str]:
    """What a user should know of the splits: partial ones, and rows without gold labels."""
    notes = []
    is_own = (
        not dataset.inputs and not dataset.expected_counts
    )  # neither a table, which has its own words, nor the paper's
    if "validation" not in splits and is_own:
        notes.append(
            "no validation split: training that evaluates needs one; split_rows=datasets.hold_out_validation cuts it from train"
        )
    for split, examples in splits.items():
        expected = dataset.expected_counts.get(split, len(examples))
        if len(examples) != expected:
            notes.append(f"{split} is partial: {len(examples):,} of {expected:,} rows")
        unlabelled = sum(example.label is None for example in examples)
        if unlabelled:
            notes.append(
                f"{split} has {unlabelled:,} rows without a gold label: train on teacher labels "
                f"({dataset.name}_{METHODS['step_by_step_teacher_label'].task_ending})"
            )
    return notes + _shared_questions(splits)


def _shared_questions(splits: Mapping[str, Sequence[Example]]) -> list[str]:
    """A note for each pair of splits that have questions in common, however these are written."""
    by_question = {
        split: {normalized(example.inputs): example.example_id for example in examples}
        for split, examples in splits.items()
    }
    notes = []
    for learned, kept in itertools.combinations(by_question, 2):
        shared = [question for question in by_question[kept] if question in by_question[learned]]
        if shared:
            first = f"{by_question[kept][shared[0]]} is {by_question[learned][shared[0]]}"
            consequence = ": training refuses them" if learned == "train" else ""
            notes.append(f"{kept} shares {len(shared):,} questions with {learned}, {first}{consequence}")
    return notes


def _vocabulary_notes(dataset: Dataset, splits: Mapping[str, Sequence[Example]]) -> list[str]:
    """What the student's vocabulary makes of inputs and labels: nothing where all come back, or it is not known."""
    vocabulary = known_vocabulary(dataset)
    if vocabulary is None:
        return []
    every = [example for examples in splits.values() for example in examples]
    inputs = text_fit.fit_of_texts(vocabulary, (example.inputs for example in every))
    notes = inputs.sentences("{} inputs") + inputs.line_break_sentences("{} inputs")
    labels = collections.Counter(
        dataset.label_words.get(example.label, example.label)
        for example in every
        if example.label is not None
    )
    is_right = functools.partial(_is_right, dataset)
    fit = text_fit.fit_of_labels(vocabulary, labels, is_right)
    return notes + [fit.unwritable_sentence("labels")] * bool(fit.num_unwritable)


def _is_right(dataset: Dataset, label: str, back: str) -> bool:
    return labels_match(dataset, back, label)


def _record(example: Example) -> dict[str, Any]:
    return {
        **vars(example),
        "label": example.label or "",
        "has_label": example.label is not None,
        "choices": list(example.choices),
    }


def read_examples(name: str, split: str, data_dir: str | os.PathLike[str] | None = None) -> list[Example]:
    """A split of a prepared dataset, in order.

    Raises:
      FileNotFoundError: says how to prepare it.
      ValueError: if there is no such split.
    """
    return list(stream_examples(name, split, data_dir))


def stream_examples(
    name: str, split: str, data_dir: str | os.PathLike[str] | None = None
) -> Iterator[Example]:
    """As `read_examples`, one after another, so that a split of any size takes little memory."""
    manifest = prepared_manifest(name, data_dir)
    folder = examples_folder(name, data_dir)
    if split not in manifest["counts"]:
        raise ValueError(f"{folder} has no split '{split}'; it has {', '.join(manifest['counts'])}.")
    for record in record_io.read_records(folder, split):
        has_label = record.pop("has_label")
        yield Example(**{**record, "label": record["label"] if has_label else None})


def prepared_manifest(name: str, data_dir: str | os.PathLike[str] | None = None) -> dict[str, Any]:
    """The manifest of a prepared dataset.

    Raises:
      FileNotFoundError: says how to prepare it.
    """
    folder = examples_folder(name, data_dir)
    manifest = record_io.read_manifest(folder)
    if manifest is None:
        raise FileNotFoundError(f"{name} is not prepared: no {folder}. Run: stepdistill prepare {name}")
    return manifest


def _prepare_vocabulary(from_folder: Path | None, data_dir: Path) -> dict[str, Any]:
    """Copies or downloads T5's SentencePiece model to DATA/vocabularies/t5.model, checked by its SHA-256."""
    target = t5_vocabulary_path(data_dir)
    result = {"vocabulary": str(target), "sha256": T5_VOCABULARY_SHA256}
    if target.exists() and file_sha256(target) == T5_VOCABULARY_SHA256:
        return {**result, "unchanged": True}
    if from_folder is None:
        found = sources.download(T5_VOCABULARY_URL, data_dir / "downloads")
    else:
        candidates = (
            [p for p in sorted(from_folder.rglob("*.model")) if _is_t5(p)] if from_folder.is_dir() else []
        )
        if not candidates:
            raise FileNotFoundError(
                f"--from {from_folder}: no SentencePiece model with T5's sha256 {T5_VOCABULARY_SHA256[:12]}… there."
            )
        found = candidates[0]
    if not _is_t5(found):
        raise ValueError(f"{found} is not T5's vocabulary: its sha256 is not {T5_VOCABULARY_SHA256}.")
    copy_atomically(found, target)
    return result


def _is_t5(path: Path) -> bool:
    return hashlib.sha256(path.read_bytes()).hexdigest() == T5_VOCABULARY_SHA256
