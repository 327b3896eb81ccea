"""Validation and test cut from a table's rows: by a seed, stratified by label, equal texts on one side.

The cut depends on what rows say, not on where they stand: the same rows in another order are cut alike.
"""

import hashlib
import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from stepdistill_jax.base.visible import folded
from stepdistill_jax.datasets.lineage.content import normalized
from stepdistill_jax.datasets.tabular.reading import TextRow

Group = list[TextRow]  # rows with one text, however it is written
LabelOf = Callable[[TextRow], str]


def groups_of(rows: Iterable[TextRow]) -> list[Group]:
    """The rows with equal texts together, in the order of the first of each."""
    groups: dict[str, Group] = {}
    for row in rows:
        groups.setdefault(normalized(row.inputs), []).append(row)
    return list(groups.values())


def cut(
    rows: Sequence[TextRow], splits: Sequence[str], *, share: float, seed: int, stratified: bool
) -> dict[str, list[TextRow]]:
    """Rows of 'train' and of each split that can be cut, every one in the order of the table.

    A split is left out where there are too few rows for it: train keeps one, and one of each label where it is stratified.

    Args:
      splits: to be cut, in this order.
      share: of the rows for each; at least one row.
      stratified: whether each label gives its share, and keeps a row in train.
    """
    left = sorted(groups_of(rows), key=lambda group: _rank(group, seed))
    parts: dict[str, Group] = {}
    for split in splits:
        wanted = max(1, round(share * len(rows)))
        chosen = _chosen(left, wanted, share=share, stratified=stratified)
        if not chosen:
            continue
        taken = set(map(id, chosen))
        left = [group for group in left if id(group) not in taken]
        parts[split] = _in_order(chosen)
    return {"train": _in_order(left), **parts}


def _in_order(groups: Iterable[Group]) -> list[TextRow]:
    return sorted((row for group in groups for row in group), key=lambda row: row.number)


def _rank(group: Group, seed: int) -> bytes:
    text = min(folded(row.inputs) for row in group)
    return hashlib.blake2b(f"{seed}\0{text}".encode(), digest_size=8).digest()


def _chosen(groups: Sequence[Group], wanted: int, *, share: float, stratified: bool) -> list[Group]:
    """Groups of `wanted` rows in all, or of more where each has more."""

    def label_of(row: TextRow) -> str:
        return row.label if stratified else ""

    return _taken(groups, wanted, share, label_of, may_exceed=False) or _taken(
        groups, wanted, share, label_of, may_exceed=True
    )


def _taken(
    groups: Sequence[Group], wanted: int, share: float, label_of: LabelOf, *, may_exceed: bool
) -> list[Group]:
    """The next group again and again of the label whose claim to its share of rows is least met."""
    strata: dict[str, list[Group]] = {}
    for group in groups:
        strata.setdefault(label_of(group[0]), []).append(group)
    waiting = {label: iter(those) for label, those in strata.items()}
    kept = Counter(label_of(row) for group in groups for row in group)
    claims = {label: share * sum(map(len, those)) for label, those in strata.items()}
    due = [(-claim, -claim, label) for label, claim in claims.items()]  # the largest first
    heapq.heapify(due)
    chosen: list[Group] = []
    count = 0
    while due and count < wanted:
        unmet, claim, label = heapq.heappop(due)
        most = sum(kept.values()) if may_exceed else wanted - count
        group = next((each for each in waiting[label] if _can_go(each, kept, label_of, most)), None)
        if group is None:
            continue
        chosen.append(group)
        count += len(group)
        kept.subtract(map(label_of, group))
        heapq.heappush(due, (unmet + len(group), claim, label))
    return chosen


def _can_go(group: Group, kept: Counter[str], label_of: LabelOf, most: int) -> bool:
    """Whether it has not too many rows, and every label has a row without it."""
    if len(group) > most:
        return False
    return all(kept[label] > count for label, count in Counter(map(label_of, group)).items())
