"""The teacher's job: prepared examples -> completions -> (rationale, label) -> TFRecords and a manifest."""

import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from stepdistill_jax import datasets
from stepdistill_jax.base.folder_lock import lock_beside
from stepdistill_jax.base.visible import visible, visible_line
from stepdistill_jax.datasets import preparation, record_io
from stepdistill_jax.datasets.lineage.belonging import of_examples
from stepdistill_jax.teacher.answers import records, scoring
from stepdistill_jax.teacher.answers.completions import Skipped, Teacher
from stepdistill_jax.teacher.answers.language_model import LanguageModel, Prompting
from stepdistill_jax.teacher.answers.parsing import parse_completion
from stepdistill_jax.teacher.asking.job_settings import JobSettings
from stepdistill_jax.teacher.backends.recorded import RecordedTeacher
from stepdistill_jax.teacher.backends.teachers import ModelSettings, is_language_model, make_language_model
from stepdistill_jax.teacher.backends.worked import WorkedTeacher
from stepdistill_jax.teacher.language_model_job import LanguageModelJob, fixed_labels
from stepdistill_jax.teacher.prompting.few_shot import PromptSettings


def teach(
    name: str,
    *,
    teacher: str | Teacher | LanguageModel,
    from_folder: str | os.PathLike[str] | None = None,
    teacher_name: str | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    score: bool = False,
    model_settings: ModelSettings | None = None,
    prompting: Prompting | PromptSettings | None = None,
    job_settings: JobSettings | None = None,
) -> dict[str, Any]:
    """Writes DATA/<name>/rationales/<teacher>/, prints what it holds, and returns its manifest.

    The folder appears whole or not at all. With the same examples, outputs and rules as last time nothing is written.

    Args:
      name: of a registered dataset that has been prepared.
      teacher: 'recorded', 'worked', 'KIND:MODEL' (see teachers.py), a Teacher or a LanguageModel.
      from_folder: for 'recorded', the folder that holds <name>/teacher/<teacher_name>/train_CoT_0.json(.gz) and so on.
      teacher_name: for 'recorded', the folder of outputs to read and to write; the dataset's default teacher if None.
        For a language model, the folder to write; made of its name if None.
      data_dir: prepared data; see `datasets.data_dir`.
      score: whether to print the accuracy of the teacher's own labels, too.
      model_settings: of a language model given by name.
      prompting: what a language model is asked, and how its answers are read.
      job_settings: at what pace and price a language model is asked.

    Returns:
      The manifest; {} for a shard or a dry run, which write no records.

    Raises:
      FolderInUse: if another process writes there.
      JobStopped: a language model's job was stopped by a signal; starting it again goes on.
      NothingParsed: there are answers, and none of them could be read. Records and answers are written, to be looked at.
    """
    dataset = datasets.get(name, data_dir)
    if job_settings and job_settings.reparse and teacher in ("recorded", "worked"):
        raise ValueError(
            f"--reparse: --teacher {teacher} has no stored answers; it is read anew whenever it is run."
        )
    if isinstance(teacher, str) and is_language_model(teacher):
        teacher = make_language_model(teacher, model_settings or ModelSettings())
    if not isinstance(teacher, str) and hasattr(teacher, "answer"):
        if teacher_name is not None:
            teacher.name = teacher_name
        written_by = teacher.name
        job = LanguageModelJob(
            dataset,
            teacher,
            settings=job_settings or JobSettings(),
            prompting=prompting or PromptSettings(),
            data_dir=data_dir,
        )
        manifest = job.run()
    else:
        source = _make_teacher(dataset, teacher, from_folder, teacher_name)
        written_by = source.name
        folder = records.rationales_folder(name, written_by, data_dir)
        with lock_beside(folder, f"{folder} (stepdistill teach)").held():
            manifest = _teach_complete(dataset, source, data_dir)
    if manifest:
        print(visible(records.summary(manifest)))
        if score:
            scoring.score(name, teacher=written_by, data_dir=data_dir)
        records.check_any_parsed(manifest, records.rationales_folder(name, written_by, data_dir))
    return manifest


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
    if from_folder is None:
        raise ValueError(
            f"--teacher recorded needs --from FOLDER, the folder that holds {dataset.name}/teacher/NAME/train_CoT_0.json."
        )
    return RecordedTeacher(
        from_folder, dataset_name=dataset.name, name=teacher_name or dataset.default_teacher
    )


def _teach_complete(
    dataset: datasets.Dataset, source: Teacher, data_dir: str | os.PathLike[str] | None
) -> dict[str, Any]:
    """The job of a teacher that answers all examples of a split in one call."""
    examples = _read_all_examples(dataset.name, data_dir)
    folder = records.rationales_folder(dataset.name, source.name, data_dir)
    sources = source.sources()
    inputs_sha256 = _fingerprint(dataset, source, examples, sources)
    manifest = records.up_to_date(folder, inputs_sha256)
    if manifest is not None:
        print(visible_line(f"{folder} is up to date: same examples, outputs and rules. Nothing was written."))
        return manifest
    labels = dataset.choices or fixed_labels(example for rows in examples.values() for example in rows)
    tallies = {split: records.Tally(dataset) for split in examples}
    return records.write(
        folder,
        dataset,
        teacher=source.name,
        splits={
            split: _answer_split(dataset, source, rows, labels=labels, tally=tallies[split])
            for split, rows in examples.items()
        },
        tallies=tallies,
        facts=lambda: {
            "sources": dict(sources),
            **of_examples(preparation.examples_folder(dataset.name, data_dir)),
            "inputs_sha256": inputs_sha256,
            "licence": dataset.licence,
            "homepage": dataset.homepage,
        },
    )


def _read_all_examples(
    name: str, data_dir: str | os.PathLike[str] | None
) -> dict[str, list[datasets.Example]]:
    counts = datasets.prepared_manifest(name, data_dir)["counts"]
    splits = [split for split in datasets.SPLITS if counts.get(split)]
    return {split: datasets.read_examples(name, split, data_dir) for split in splits}


def _fingerprint(
    dataset: datasets.Dataset,
    source: Teacher,
    examples: Mapping[str, Sequence[datasets.Example]],
    sources: Mapping[str, str],
) -> str:
    """SHA-256 of all that the records depend on."""
    rules = [records.FORMAT_VERSION, source.name, repr(dataset.completion), repr(sorted(sources.items()))]
    rows = (repr(dataclasses.astuple(example)) for split in examples.values() for example in split)
    return record_io.sha256_of_texts((*rules, *rows))


def _answer_split(
    dataset: datasets.Dataset,
    source: Teacher,
    examples: Sequence[datasets.Example],
    *,
    labels: tuple[str, ...],
    tally: records.Tally,
) -> Iterator[dict[str, Any]]:
    """Records of a split; what is skipped, and why, goes into the tally."""
    for example, answer in zip(examples, source.complete(examples), strict=True):
        if isinstance(answer, Skipped):
            tally.skipped[answer.why] += 1
            continue
        parsed = answer.parsed or parse_completion(answer.text, dataset.completion, labels=labels)
        yield records.make_record(example, answer, parsed, teacher=source.name)
