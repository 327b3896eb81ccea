"""The teacher's job: prepared examples -> completions -> (rationale, label) -> TFRecords and a manifest."""

import dataclasses
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stepdistill_jax import datasets
from stepdistill_jax.datasets import record_io
from stepdistill_jax.teacher import scoring
from stepdistill_jax.teacher.completions import Completion, Skipped, Teacher
from stepdistill_jax.teacher.parsing import ParsedCompletion, parse_completion
from stepdistill_jax.teacher.recorded import RecordedTeacher
from stepdistill_jax.teacher.worked import WorkedTeacher

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
    "source_split": record_io.TEXT,
    "source_row": record_io.INTEGER,
}
_FORMAT_VERSION = "2"  # a change of parsing or records that should write them again


def teach(
    name: str,
    *,
    teacher: str | Teacher,
    from_folder: str | os.PathLike[str] | None = None,
    teacher_name: str | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    score: bool = False,
) -> dict[str, Any]:
    """Writes DATA/<name>/rationales/<teacher>/, prints what it holds, and returns its manifest.

    The folder appears whole or not at all. With the same examples, outputs and rules as last time nothing is written.

    Args:
      name: of a registered dataset that has been prepared.
      teacher: 'recorded', 'worked', or any Teacher.
      from_folder: for 'recorded', the folder that holds <name>/teacher/<teacher_name>/train_CoT_0.json(.gz) and so on.
      teacher_name: for 'recorded', the folder of outputs to read and to write; the dataset's default teacher if None.
      data_dir: prepared data; see `datasets.data_dir`.
      score: whether to print the accuracy of the teacher's own labels, too.
    """
    dataset = datasets.get(name)
    source = _make_teacher(dataset, teacher, from_folder, teacher_name)
    examples = _read_all_examples(name, data_dir)
    folder = rationales_folder(name, source.name, data_dir)
    sources = source.sources()
    inputs_sha256 = _fingerprint(dataset, source, examples, sources)

    manifest = _finished_manifest(folder, inputs_sha256)
    if manifest is not None:
        print(f"{folder} is up to date: same examples, outputs and rules. Nothing was written.")
    else:
        labels = fixed_labels(examples)
        records, skipped = {}, {}
        for split, rows in examples.items():
            records[split], skipped[split] = _answer_split(dataset, source, rows, labels)
        if not any(records.values()):
            raise ValueError(
                f"Teacher '{source.name}' answers no example of {name}: {_skipped_text(skipped)}."
            )
        manifest = record_io.write_records(
            folder,
            name=name,
            features=FEATURES,
            splits={split: rows for split, rows in records.items() if rows},
            manifest=_facts(dataset, source, records, skipped, sources, inputs_sha256),
            description=f"Rationales and labels of the teacher '{source.name}' for {name}.",
            licence=dataset.licence,
        )
        print(f"Wrote {folder}")
    print(_summary(manifest))
    if score:
        scoring.score(name, teacher=source.name, data_dir=data_dir)
    return manifest


def rationales_folder(name: str, teacher: str, data_dir: str | os.PathLike[str] | None = None) -> Path:
    """DATA/<name>/rationales/<teacher>."""
    return datasets.data_dir(data_dir) / name / "rationales" / teacher


def fixed_labels(examples: Mapping[str, Sequence[datasets.Example]]) -> tuple[str, ...]:
    """The labels of a task that has the same choices in every row (entailment, neutral, …), else ().

    CQA has five other choices in each row; an answer that is none of them is wrong rather than unparsed, as in the
    authors' code.
    """
    choices = {example.choices for rows in examples.values() for example in rows}
    return choices.pop() if len(choices) == 1 else ()


def _make_teacher(
    dataset: datasets.Dataset,
    teacher: str | Teacher,
    from_folder: str | os.PathLike[str] | None,
    teacher_name: str | None,
) -> Teacher:
    if not isinstance(teacher, str):
        return teacher
    if teacher == "worked":
        return WorkedTeacher(dataset)
    if teacher != "recorded":
        raise ValueError(
            f"No teacher '{teacher}'; use --teacher recorded --from FOLDER, or --teacher worked."
        )
    if from_folder is None:
        raise ValueError(
            f"--teacher recorded needs --from FOLDER, the folder that holds {dataset.name}/teacher/NAME/train_CoT_0.json."
        )
    return RecordedTeacher(
        from_folder, dataset_name=dataset.name, name=teacher_name or dataset.default_teacher
    )


def _read_all_examples(
    name: str, data_dir: str | os.PathLike[str] | None
) -> dict[str, list[datasets.Example]]:
    manifest = record_io.read_manifest(datasets.data_dir(data_dir) / name / "examples")
    # Without a manifest, reading 'train' raises the error that says how to prepare.
    splits = [split for split in datasets.SPLITS if manifest is None or manifest["counts"].get(split)]
    return {split: datasets.read_examples(name, split, data_dir) for split in splits}


def _fingerprint(
    dataset: datasets.Dataset,
    source: Teacher,
    examples: Mapping[str, Sequence[datasets.Example]],
    sources: Mapping[str, str],
) -> str:
    """SHA-256 of all that the records depend on."""
    rules = [_FORMAT_VERSION, source.name, repr(dataset.completion), repr(sorted(sources.items()))]
    rows = (repr(dataclasses.astuple(example)) for split in examples.values() for example in split)
    return record_io.sha256_of_texts((*rules, *rows))


def _finished_manifest(folder: Path, inputs_sha256: str) -> dict[str, Any] | None:
    """The manifest of an undamaged folder that was written from the same inputs, or None."""
    manifest = record_io.read_manifest(folder)
    if manifest is None or manifest.get("inputs_sha256") != inputs_sha256:
        return None
    try:
        return record_io.verify(folder)
    except ValueError as error:
        print(f"Writing again: {error}")
        return None


def _answer_split(
    dataset: datasets.Dataset, source: Teacher, examples: Sequence[datasets.Example], labels: tuple[str, ...]
) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """Records of a split, and how many rows were skipped for which reason."""
    records: list[dict[str, Any]] = []
    skipped: Counter[str] = Counter()
    for example, answer in zip(examples, source.complete(examples), strict=True):
        if isinstance(answer, Skipped):
            skipped[answer.why] += 1
            continue
        parsed = answer.parsed or parse_completion(answer.text, dataset.completion, labels=labels)
        records.append(_record(example, answer, parsed, source.name))
    return records, dict(skipped)


def _record(
    example: datasets.Example, answer: Completion, parsed: ParsedCompletion, teacher: str
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
        "source_split": example.source_split,
        "source_row": example.source_row,
    }


def _facts(
    dataset: datasets.Dataset,
    source: Teacher,
    records: Mapping[str, Sequence[Mapping[str, Any]]],
    skipped: Mapping[str, Mapping[str, int]],
    sources: Mapping[str, str],
    inputs_sha256: str,
) -> dict[str, Any]:
    reasons = {split: Counter(row["unparsed_reason"] for row in rows) for split, rows in records.items()}
    return {
        "dataset": dataset.name,
        "teacher": source.name,
        "parsed": {split: count.pop("", 0) for split, count in reasons.items()},
        "unparsed": {split: dict(sorted(count.items())) for split, count in reasons.items()},
        "skipped": {split: dict(why) for split, why in skipped.items()},
        # Accuracy of the teacher's own labels where there are gold ones; the report lists it beside its students.
        "scores": {split: score for split, rows in records.items() if (score := _score(dataset, rows))},
        "sources": dict(sources),
        "inputs_sha256": inputs_sha256,
        "licence": dataset.licence,
        "homepage": dataset.homepage,
    }


def _score(dataset: datasets.Dataset, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    found = scoring.score_records(dataset, rows)
    if not found.total:
        return None
    return {"num_correct": found.correct, "num_examples": found.total, "accuracy": found.percent}


def _summary(manifest: Mapping[str, Any]) -> str:
    lines = []
    for split, parsed in manifest["parsed"].items():
        line = f"  {split:<10} {manifest['counts'].get(split, 0):>7,} outputs, {parsed:,} parsed"
        details = {**manifest["unparsed"][split], **_prefixed(manifest["skipped"][split])}
        line += "".join(f"; {number:,} {why}" for why, number in details.items())
        lines.append(line)
    return "\n".join(lines)


def _prefixed(skipped: Mapping[str, int]) -> dict[str, int]:
    return {f"skipped: {why}": number for why, number in skipped.items()}


def _skipped_text(skipped: Mapping[str, Mapping[str, int]]) -> str:
    total: Counter[str] = Counter()
    for why in skipped.values():
        total.update(why)
    return ", ".join(f"{number:,} x {why}" for why, number in total.items()) or "there are no examples"
