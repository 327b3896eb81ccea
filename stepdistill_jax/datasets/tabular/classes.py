"""The labels of a table: how many there are, which look alike, and whether they are choices or open text."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from stepdistill_jax.datasets.tabular.reading import TextRow, lines_text
from stepdistill_jax.datasets.tabular.settings import TableSettings
from stepdistill_jax.tables import TableError

ALWAYS_CHOICES = 20  # labels, and fewer, are choices however often each occurs
MOST_CHOICES = 256  # labels, of which each occurs
ROWS_A_CHOICE = 5  # times on average
_SHOWN = 8  # labels in a message

Splits = Mapping[str, Sequence[TextRow]]


def counts_of(rows: Iterable[TextRow]) -> Counter[str]:
    """Label -> its rows; the commonest first, of equals by their text."""
    counts = Counter(row.label for row in rows)
    return Counter(dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))))


def alike(labels: Mapping[str, int]) -> list[tuple[str, ...]]:
    """Groups of labels that differ in case and spaces alone, the commonest of each first."""
    groups: dict[str, list[str]] = {}
    for label in labels:
        groups.setdefault(" ".join(label.split()).casefold(), []).append(label)
    return [tuple(group) for group in groups.values() if len(group) > 1]


def merging(labels: Mapping[str, int], choices: Sequence[str]) -> dict[str, str]:
    """Label -> the one that stands for it and those that are alike: one of the given choices, else the commonest."""
    return {
        label: next((choice for choice in choices if choice in group), group[0])
        for group in alike(labels)
        for label in group
    }


def choices_of(splits: Splits, settings: TableSettings) -> tuple[str, ...]:
    """The labels that there are, the commonest first; () where any text may be one.

    Raises:
      TableError: where there is nothing to learn: one label alone, several labels in one cell, labels that are none of
        --choices, or labels that train has not.
    """
    labels, every = counts_of(splits["train"]), counts_of(row for rows in splits.values() for row in rows)
    if len(every) == 1:
        raise TableError(
            f"--label {settings.label}: all {every.total():,} rows have the label {next(iter(every))!r}, so there is nothing to "
            f"learn; name another column."
        )
    if settings.choices:
        _check_given(splits, settings.choices)
        return settings.choices
    if settings.free or settings.metric == "equation" or not _are_few(labels, settings):
        return ()
    _check_single(labels)
    unseen = [label for label in every if label not in labels]
    if unseen and not settings.allow_unseen:
        raise TableError(_unseen_text(splits, unseen))
    return (*labels, *unseen)


def notes_on(splits: Splits, choices: Sequence[str], settings: TableSettings) -> list[str]:
    """What a user should know of the labels.

    Args:
      splits: before any is cut.
      choices: as `choices_of` gives them.
    """
    labels, every = counts_of(splits["train"]), counts_of(row for rows in splits.values() for row in rows)
    notes = [
        f"{', '.join(map(repr, group))} differ in case and spaces alone, and are {len(group)} labels; --merge_labels makes "
        f"them one"
        for group in alike(every)
    ]
    kinds: dict[str, set[str]] = {}
    for row in (row for rows in splits.values() for row in rows):
        kinds.setdefault(row.label, set()).add(row.kind)
    for label, types in kinds.items():
        if len(types) > 1:
            notes.append(
                f"the label {label} stands there as {' and as '.join(sorted(types))}, and is one label"
            )
    if not choices:
        if settings.metric == "text" and not settings.free:
            notes.append(
                f"{len(every):,} different labels in {every.total():,} rows are taken as open text; --choices takes them all as "
                f"choices"
            )
        return notes
    single = [label for label in labels if labels[label] == 1]
    if single:
        notes.append(
            f"of one training row alone, which no cut takes from train: the labels {_listed(single)}"
        )
    if len(labels) > labels.total() / 2:
        notes.append(
            f"{len(labels)} labels in {labels.total()} training rows are choices; --free takes them as open text"
        )
    unused = [choice for choice in choices if choice not in labels]
    if unused:
        notes.append(f"no training row has the label {_listed(unused)}")
    return notes


def _are_few(labels: Counter[str], settings: TableSettings) -> bool:
    if settings.choices is not None or len(labels) <= ALWAYS_CHOICES:
        return True
    return len(labels) <= MOST_CHOICES and labels.total() >= ROWS_A_CHOICE * len(labels)


def _check_given(splits: Splits, choices: Sequence[str]) -> None:
    for rows in splits.values():
        strange = [row for row in rows if row.label not in choices]
        if strange:
            lines = lines_text(row.line for row in strange if row.path == strange[0].path)
            raise TableError(
                f"{strange[0].path}: {lines}: the label {strange[0].label!r} is none of --choices {', '.join(choices)}; add it, "
                f"or mend the file."
            )


def _check_single(labels: Iterable[str]) -> None:
    """Refuses cells of several labels: 'a,b' where 'a' and 'b' are found in other labels, too."""
    parts = {label: {part.strip() for part in re.split("[,;|]", label)} - {""} for label in labels}
    found = Counter(part for those in parts.values() for part in those)
    several = [label for label, those in parts.items() if len(those) > 1 and min(map(found.get, those)) > 1]
    if several:
        raise TableError(
            f"the labels {_listed(several)} look like several labels in one cell; a row has one label here: make a table for "
            f"each question, or say by --choices that they are labels, or by --free that they are text."
        )


def _unseen_text(splits: Splits, unseen: Sequence[str]) -> str:
    rows = [row for rows in splits.values() for row in rows if row.label in unseen]
    return (
        f"{rows[0].path}: {lines_text(row.line for row in rows if row.path == rows[0].path)}: no training row has the label "
        f"{_listed(unseen)}, so it can't be learned; add such rows to train, or keep these as they are by --allow_unseen."
    )


def _listed(labels: Sequence[str]) -> str:
    more = f" and {len(labels) - _SHOWN:,} more" if len(labels) > _SHOWN else ""
    return ", ".join(map(repr, labels[:_SHOWN])) + more
