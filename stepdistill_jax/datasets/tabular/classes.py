"""The labels of a table: how many there are, which look alike, and whether they are choices or open text."""

import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence

from stepdistill_jax.base.visible import look, shortened, spelled, told_plainly
from stepdistill_jax.datasets.equations import evaluate
from stepdistill_jax.datasets.tabular.reading import TextRow, lines_text
from stepdistill_jax.datasets.tabular.settings import TableSettings
from stepdistill_jax.tables import TableError

ALWAYS_CHOICES = 20  # labels, and fewer, are choices however often each occurs
MOST_CHOICES = 256  # labels, of which each occurs
ROWS_A_CHOICE = 5  # times on average
_SHOWN = 8  # labels in a message
_SHOWN_CHARACTERS = 60  # of a label there
_BETWEEN = re.compile(r"[,;|/&+\n]")  # labels in one cell, which may then be labels by themselves
_LISTING = re.compile(r"[,;|\n]")  # and these, even if no row has one of them alone
_DECIMAL = re.compile(r"[-+]?[0-9]+(,[0-9]+)+")  # 0,5 or 1,000

Splits = Mapping[str, Sequence[TextRow]]


def counts_of(rows: Iterable[TextRow]) -> Counter[str]:
    """Label -> its rows; the commonest first, of equals by their text."""
    counts = Counter(row.label for row in rows)
    return Counter(dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))))


def alike(labels: Mapping[str, int]) -> list[tuple[str, ...]]:
    """Groups of labels that a reader takes for one (`base.visible.look`), the commonest of each first."""
    return _groups(labels, look)


def _groups(labels: Iterable[str], same: Callable[[str], Hashable]) -> list[tuple[str, ...]]:
    """Labels of which `same` says the same, where there are several."""
    groups: dict[Hashable, list[str]] = {}
    for label in labels:
        groups.setdefault(same(label), []).append(label)
    return [tuple(group) for group in groups.values() if len(group) > 1]


def _without_case(label: str) -> str:
    return " ".join(label.split()).casefold()


def _number(label: str) -> Hashable:
    """The number that a label writes, so that '1', '01' and '1.0' are the same; a label that writes none is itself."""
    try:
        return float(label) if label.strip()[-1:].isdigit() and "_" not in label else label
    except ValueError:
        return label


def merging(labels: Mapping[str, int], choices: Sequence[str]) -> dict[str, str]:
    """Label -> the one that stands for it and those that are alike: one of the given choices, else the commonest, and of
    equally common ones one that is what it looks like."""

    def rank(label: str) -> tuple[bool, int, bool, str]:
        return label not in choices, -labels.get(label, 0), told_plainly(label) != label, label

    given = dict.fromkeys(choices, 0)
    return {label: min(group, key=rank) for group in alike({**given, **labels}) for label in group}


def choices_of(splits: Splits, settings: TableSettings) -> tuple[str, ...]:
    """The labels that there are, the commonest first; () where any text may be one.

    Raises:
      TableError: where there is nothing to learn: one label alone, several labels in one cell, labels that are none of
        --choices, or labels that train has not.
    """
    labels, every = counts_of(splits["train"]), counts_of(row for rows in splits.values() for row in rows)
    if len(labels) == 1:
        rows = f"all {every.total():,} rows" if len(every) == 1 else f"all {labels.total():,} rows of train"
        raise TableError(
            f"--label {settings.label}: {rows} have the label {_listed([*labels])}, so there is nothing to "
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
        raise TableError(_unseen_text(splits, unseen, labels))
    return (*labels, *unseen)


def notes_on(splits: Splits, choices: Sequence[str], settings: TableSettings) -> list[str]:
    """What a user should know of the labels.

    Args:
      splits: before any is cut.
      choices: as `choices_of` gives them.
    """
    labels, every = counts_of(splits["train"]), counts_of(row for rows in splits.values() for row in rows)
    notes = [*_likeness_notes(every), *_margin_notes(every)]
    if settings.metric == "equation" and (others := [label for label in every if evaluate(label) is None]):
        notes.append(f"{len(others):,} labels are no equations, and are compared as text: {_listed(others)}")
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


def _likeness_notes(labels: Mapping[str, int]) -> list[str]:
    notes = []
    for group in (groups := alike(labels))[:_SHOWN]:
        how = "differ in case and spaces alone" if len(set(map(_without_case, group))) == 1 else "look alike"
        notes.append(f"{_listed(group)} {how}, and are {len(group)} labels; --merge_labels makes them one")
    if len(groups) > _SHOWN:
        notes.append(f"{len(groups) - _SHOWN:,} more groups of labels look alike")
    for group in _groups(labels, _number)[:_SHOWN]:
        notes.append(f"{_listed(group)} are one number, and {len(group)} labels")
    return notes


def _margin_notes(labels: Mapping[str, int]) -> list[str]:
    """Of what a file may have around its labels without their being meant so."""
    spaced = [label for label in labels if label != label.strip()]
    quoted = [label for label in labels if re.fullmatch(r"""\s*(["']).+\1\s*""", label)]
    notes = []
    if spaced:
        notes.append(f"blanks before or behind them are part of {len(spaced):,} labels: {_listed(spaced)}")
    if quoted:
        notes.append(f"the quotes around them are part of {len(quoted):,} labels: {_listed(quoted)}")
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
                f"{strange[0].path}: {lines}: the label {_listed([strange[0].label])} is none of --choices {', '.join(map(told_plainly, choices))}; "
                f"add it, or mend the file."
            )


def _check_single(labels: Iterable[str]) -> None:
    """Refuses cells of several labels: 'a,b' where 'a' and 'b' are found in other labels, too."""
    parts = {label: {part.strip() for part in _BETWEEN.split(label)} - {""} for label in labels}
    found = Counter(part for those in parts.values() for part in those)

    def is_several(label: str) -> bool:
        if len(parts[label]) < 2 or parts[label] <= parts.keys():
            return len(parts[label]) > 1
        is_listing = _LISTING.search(label) and not _DECIMAL.fullmatch(label)
        return bool(is_listing) and min(found[part] for part in parts[label]) > 1

    several = [label for label in parts if is_several(label)]
    if several:
        raise TableError(
            f"the labels {_listed(several)} look like several labels in one cell; a row has one label here: make a table for "
            f"each question, or say by --choices that they are labels, or by --free that they are text."
        )


def _unseen_text(splits: Splits, unseen: Sequence[str], labels: Mapping[str, int]) -> str:
    rows = [row for rows in splits.values() for row in rows if row.label in unseen]
    hint = next(filter(None, (_nearness(new, labels) for new in unseen)), "")
    return (
        f"{rows[0].path}: {lines_text(row.line for row in rows if row.path == rows[0].path)}: no training row has the label "
        f"{_listed(unseen)}, so it can't be learned; add such rows to train, or keep these as they are by --allow_unseen.{hint}"
    )


def _nearness(new: str, labels: Mapping[str, int]) -> str:
    """Which label of train it may well be."""
    every = [*labels, new]
    if near := next((group for group in _groups(every, look) if new in group), None):
        return f" {_listed(near)} look alike: --merge_labels makes them one."
    near = next((group for group in _groups(every, _number) if new in group), None)
    return f" {_listed(near)} are one number: write them alike." if near else ""


def _listed(labels: Sequence[str]) -> str:
    more = f" and {len(labels) - _SHOWN:,} more" if len(labels) > _SHOWN else ""
    return ", ".join(spelled(shortened(label, _SHOWN_CHARACTERS)) for label in labels[:_SHOWN]) + more
