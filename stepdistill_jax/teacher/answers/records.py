"""The teacher's records: what one holds, what the manifest counts of them, and when they are up to date."""

import itertools
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from stepdistill_jax import datasets
from stepdistill_jax.base.visible import visible_line
from stepdistill_jax.datasets import record_io
from stepdistill_jax.teacher.answers import scoring
from stepdistill_jax.teacher.answers.completions import Completion
from stepdistill_jax.teacher.answers.mends import MENDS
from stepdistill_jax.teacher.answers.parsing import ParsedCompletion

FEATURES = {
    "example_id": record_io.TEXT,
    "dataset": record_io.TEXT,
    "split": record_io.TEXT,
    "inputs": record_io.TEXT,
    "label": record_io.TEXT,
    "has_label": record_io.BOOLEAN,
    "teacher_label": record_io.TEXT,
    "rationale": record_io.TEXT,
    "raw_output": record_io.TEXT,
    "finish_reason": record_io.TEXT,
    "prompt_tokens": record_io.INTEGER,
    "completion_tokens": record_io.INTEGER,
    "teacher": record_io.TEXT,
    "prompt_hash": record_io.TEXT,
    "sampling": record_io.TEXT,
    "unparsed_reason": record_io.TEXT,
    "dropped_reason": record_io.TEXT,
    "source_split": record_io.TEXT,
    "source_row": record_io.INTEGER,
}
FORMAT_VERSION = "5"  # a change of parsing or records that should write them again


def rationales_folder(name: str, teacher: str, data_dir: str | os.PathLike[str] | None = None) -> Path:
    """DATA/<name>/rationales/<teacher>."""
    return datasets.data_dir(data_dir) / name / "rationales" / teacher


def make_record(
    example: datasets.Example,
    answer: Completion,
    parsed: ParsedCompletion,
    *,
    teacher: str,
    dropped_reason: str = "",
) -> dict[str, Any]:
    return {
        "example_id": example.example_id,
        "dataset": example.dataset,
        "split": example.split,
        "inputs": example.inputs,
        "label": example.label or "",
        "has_label": example.label is not None,
        "teacher_label": parsed.label,
        "rationale": parsed.rationale,
        "raw_output": answer.text,
        "finish_reason": answer.finish_reason,
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": answer.completion_tokens,
        "teacher": teacher,
        "prompt_hash": answer.prompt_hash,
        "sampling": answer.sampling,
        "unparsed_reason": parsed.unparsed_reason,
        "dropped_reason": dropped_reason,
        "source_split": example.source_split,
        "source_row": example.source_row,
    }


class Tally:
    """Counts a split's records as they pass by on their way to the file."""

    def __init__(self, dataset: datasets.Dataset):
        self._dataset = dataset
        self.parsed = 0
        self.unparsed: Counter[str] = Counter()
        self.dropped: Counter[str] = Counter()
        self.skipped: Counter[str] = Counter()
        self.finish_reasons: Counter[str] = Counter()
        self.notes: Counter[str] = Counter()
        self.score = scoring.Score()

    def count(self, record: Mapping[str, Any]) -> None:
        if record["unparsed_reason"]:
            self.unparsed[record["unparsed_reason"]] += 1
        else:
            self.parsed += 1
        if record["dropped_reason"]:
            self.dropped[record["dropped_reason"]] += 1
        if record["finish_reason"]:
            self.finish_reasons[record["finish_reason"]] += 1
        self.score += scoring.score_records(self._dataset, [record])

    def passing(self, records: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """The records, counted."""
        for record in records:
            self.count(record)
            yield record


def write(
    folder: Path,
    dataset: datasets.Dataset,
    *,
    teacher: str,
    splits: Mapping[str, Iterable[dict[str, Any]]],
    tallies: Mapping[str, Tally],
    facts: Callable[[], Mapping[str, Any]],
    shard_size: int = record_io.DEFAULT_SHARD_SIZE,
) -> dict[str, Any]:
    """Writes the folder of a teacher, whole or not at all, and gives its manifest.

    Args:
      splits: split -> records, read once; a split without any is left out.
      tallies: split -> what counts its records, and what was skipped.
      facts: gives further entries of the manifest, once all records are written.

    Raises:
      ValueError: if there is no record at all.
    """
    present = {}
    for split, rows in splits.items():
        passing = tallies[split].passing(rows)
        if (first := next(passing, None)) is not None:
            present[split] = itertools.chain([first], passing)
    if not present:
        raise ValueError(
            f"Teacher '{teacher}' answers no example of {dataset.name}: {_skipped_text(tallies)}."
        )
    manifest = record_io.write_records(
        folder,
        name=dataset.name,
        features=FEATURES,
        splits=present,
        manifest=lambda: {
            "dataset": dataset.name,
            "teacher": teacher,
            **_counts(tallies, present),
            **facts(),
        },
        description=f"Rationales and labels of the teacher '{teacher}' for {dataset.name}.",
        licence=dataset.licence,
        shard_size=shard_size,
    )
    print(visible_line(f"Wrote {folder}"))
    return manifest


def _counts(tallies: Mapping[str, Tally], present: Iterable[str]) -> dict[str, Any]:
    written = {split: tallies[split] for split in present}
    return {
        "parsed": {split: tally.parsed for split, tally in written.items()},
        "unparsed": {split: dict(sorted(tally.unparsed.items())) for split, tally in written.items()},
        "dropped": {split: dict(sorted(tally.dropped.items())) for split, tally in written.items()},
        "skipped": {split: dict(sorted(tally.skipped.items())) for split, tally in tallies.items()},
        "finish_reasons": {
            split: dict(sorted(tally.finish_reasons.items())) for split, tally in written.items()
        },
        "notes": {split: dict(sorted(tally.notes.items())) for split, tally in written.items()},
        # Accuracy of the teacher's own labels where there are gold ones; the report lists it beside its students.
        "scores": {split: _score(tally.score) for split, tally in written.items() if tally.score.total},
    }


def _score(score: scoring.Score) -> dict[str, Any]:
    return {
        "num_correct": score.correct,
        "num_examples": score.total,
        "accuracy": score.percent,
        "confidence_95": list(score.interval or ()),
    }


def up_to_date(folder: Path, inputs_sha256: str) -> dict[str, Any] | None:
    """The manifest of an undamaged folder that was written from the same inputs, or None."""
    manifest = record_io.read_manifest(folder)
    if manifest is None or manifest.get("inputs_sha256") != inputs_sha256:
        return None
    try:
        return record_io.verify(folder)
    except ValueError as error:
        print(visible_line(f"Writing again: {error}"))
        return None


class NothingParsed(ValueError):
    """Not one answer could be read: no success, whatever was written; `exit_status` is that of such a command."""

    exit_status = 65  # EX_DATAERR of sysexits.h


def check_any_parsed(manifest: Mapping[str, Any], folder: Path) -> None:
    """Refuses records of which no student can learn.

    Raises:
      NothingParsed: names what is wrong with the answers, and the commonest fault's mend.
    """
    reasons = sum(map(Counter, manifest["unparsed"].values()), Counter())
    if any(manifest["parsed"].values()) or not reasons:
        return
    kinds = ", ".join(f"{number:,} x {reason}" for reason, number in reasons.most_common())
    commonest = reasons.most_common(1)[0][0]
    mend = MENDS.get(commonest, "see whether the --prompt asks for what the dataset's answer marker expects")
    raise NothingParsed(
        f"{manifest['dataset']} by {manifest['teacher']}: none of {reasons.total():,} answers could be read ({kinds}), so there "
        f"is nothing to learn from. Mend: {mend}. The answers are kept; `stepdistill teach show {folder} --unparsed` shows them."
    )


def summary(manifest: Mapping[str, Any]) -> str:
    """A line for each split: how many outputs, how many parsed, and what is wrong with the others; then what can be done."""
    lines = []
    for split, parsed in manifest["parsed"].items():
        line = f"  {split:<10} {manifest['counts'].get(split, 0):>7,} outputs, {parsed:,} parsed"
        details = {
            **manifest["unparsed"][split],
            **_prefixed("dropped: ", manifest.get("dropped", {}).get(split, {})),
            **_prefixed("skipped: ", manifest["skipped"][split]),
        }
        line += "".join(f"; {number:,} {why}" for why, number in details.items())
        lines.append(line)
    reasons = {reason for counts in manifest["unparsed"].values() for reason in counts}
    lines += [f"  {reason}: {mend}." for reason, mend in MENDS.items() if reason in reasons]
    return "\n".join(lines)


def _prefixed(prefix: str, counts: Mapping[str, int]) -> dict[str, int]:
    return {f"{prefix}{why}": number for why, number in counts.items()}


def _skipped_text(tallies: Mapping[str, Tally]) -> str:
    total = sum((tally.skipped for tally in tallies.values()), Counter())
    return ", ".join(f"{number:,} x {why}" for why, number in total.items()) or "there are no examples"
