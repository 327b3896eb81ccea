"""What changes when stored answers are read again, by the rules of another version or other flags."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from stepdistill_jax import datasets
from stepdistill_jax.datasets import record_io

SAME, SPELT, OTHER = "the same", "spelt otherwise", "with another meaning"
NOW_PARSED, STILL_UNPARSED, NEW = "now parsed", "still unparsed", "without an earlier record"
_NOW_UNPARSED = "now unparsed: "


class Changes:
    """Compares records, as they pass by on their way to the file, with those that the folder holds until then.

    labels: kind of change -> how many; rationales: how many of the answers parsed before and now have another.
    """

    def __init__(self, dataset: datasets.Dataset, folder: Path):
        self._dataset, self._folder = dataset, folder
        self._splits = (record_io.read_manifest(folder) or {}).get("counts", {})
        self.labels: Counter[str] = Counter()
        self.rationales = 0

    def passing(self, split: str, records: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """The records, compared. Earlier records are in the same order, though some may be missing."""
        earlier = record_io.read_records(self._folder, split) if split in self._splits else iter(())
        before = next(earlier, None)
        for record in records:
            if before is None or before["example_id"] != record["example_id"]:
                self.labels[NEW] += 1
            else:
                self.labels[self._kind(before, record)] += 1
                parsed = not before["unparsed_reason"] and not record["unparsed_reason"]
                self.rationales += parsed and before["rationale"] != record["rationale"]
                before = next(earlier, None)
            yield record

    def summary(self) -> str:
        """All of it on one line."""
        labels = ", ".join(f"{number:,} {kind}" for kind, number in self.labels.most_common())
        return f"labels: {labels}; rationales: {self.rationales:,} changed"

    def _kind(self, before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
        if now["unparsed_reason"]:
            return STILL_UNPARSED if before["unparsed_reason"] else f"{_NOW_UNPARSED}{now['unparsed_reason']}"
        if before["unparsed_reason"]:
            return NOW_PARSED
        if before["teacher_label"] == now["teacher_label"]:
            return SAME
        same = datasets.labels_match(self._dataset, now["teacher_label"], before["teacher_label"])
        return SPELT if same else OTHER
