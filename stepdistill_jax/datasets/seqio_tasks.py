"""SeqIO tasks and mixtures of every registered dataset: labels, rationales, and both."""

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import seqio
import tensorflow as tf
import tensorflow_datasets as tfds

from stepdistill_jax.datasets import choices, record_io, registry
from stepdistill_jax.datasets.preparation import examples_folder, prepared_manifest
from stepdistill_jax.datasets.registry import LABEL_TASK_ID, RATIONALE_TASK_ID, Dataset
from stepdistill_jax.datasets.vocabularies import embedded_vocabulary, vocabulary

# What is put before the inputs: the paper's text, or its authors' code, which says "predict: " and "explain: ".
PREFIXES = {
    "paper": {LABEL_TASK_ID: "[label] ", RATIONALE_TASK_ID: "[rationale] "},
    "code": {LABEL_TASK_ID: "predict: ", RATIONALE_TASK_ID: "explain: "},
}


def prefix(task_id: int) -> str:
    """The task's prefix, in the style of `datasets.task_choices.prefixes` or $STEPDISTILL_PREFIXES."""
    style, _ = choices.task_choices()
    if style not in PREFIXES:
        raise ValueError(f"STEPDISTILL_PREFIXES={style!r}; use {' or '.join(map(repr, PREFIXES))}.")
    return PREFIXES[style][task_id]


def rationales_folder(dataset: Dataset, data_dir: Path | None = None) -> Path:
    """DATA/<name>/rationales/<teacher>: of `datasets.task_choices.teacher` or $STEPDISTILL_TEACHER, else the dataset's own teacher, else the only one.

    Raises:
      FileNotFoundError: if there is none, or several and none is named.
    """
    root = registry.data_dir(data_dir) / dataset.name / "rationales"
    _, named = choices.task_choices()
    there = sorted(path.parent.name for path in root.glob(f"[!.]*/{record_io.MANIFEST}"))
    chosen = named or (dataset.default_teacher if dataset.default_teacher in there else None)
    if chosen is None and len(there) == 1:
        chosen = there[0]
    if chosen in there:
        return root / chosen
    if chosen is None and there:
        raise FileNotFoundError(
            f"{root} has several teachers, {', '.join(there)}: set STEPDISTILL_TEACHER to one."
        )
    raise FileNotFoundError(
        f"No rationales{f' of {chosen}' if chosen else ''} in {root}; run: stepdistill teach {dataset.name} --teacher …"
    )


@functools.lru_cache(maxsize=64)
def _verify_once(folder: Path, written_ns: int) -> None:
    """Names a truncated, changed or missing shard before anything is trained on; once a process and version of a folder.

    A GB takes about a second. `written_ns` is the manifest's time: a folder that was written anew is checked anew.
    """
    del written_ns
    record_io.verify(folder)


class MissingSplit(ValueError, LookupError):
    """The records were written without this split (a teacher that has answered the training questions only)."""


def _open(folder: Path, split: str, shuffle_files: bool) -> tf.data.Dataset:
    _verify_once(folder, (folder / record_io.MANIFEST).stat().st_mtime_ns)
    builder = tfds.builder_from_directory(str(folder))
    if split not in builder.info.splits:
        raise MissingSplit(f"{folder} has no split '{split}'; it has {', '.join(builder.info.splits)}.")
    config = tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False)
    return builder.as_dataset(split, shuffle_files=shuffle_files, read_config=config)


class RecordsSource(seqio.FunctionDataSource):
    """Records of prepared folders, which say what they hold without being read."""

    def __init__(
        self, read: Callable[..., tf.data.Dataset], splits: Sequence[str], folder_of: Callable[[str], Path]
    ) -> None:
        """Args:
        read: (split, shuffle_files, seed) -> records.
        splits: that there may be.
        folder_of: split -> the folder that it is read from.
        """
        super().__init__(dataset_fn=read, splits=splits)
        self._folder_of = folder_of

    def content_id(self, split: str) -> str:
        """The records' checksum and the prefixes: what token ids depend on beside the preprocessors' code."""
        folder = self._folder_of(split)
        _verify_once(folder, (folder / record_io.MANIFEST).stat().st_mtime_ns)  # kept token ids or not
        return f"{record_io.content_id(folder)} {[prefix(task_id) for task_id in (LABEL_TASK_ID, RATIONALE_TASK_ID)]}"

    def facts(self, split: str) -> dict[str, str]:
        """What a run records of its data: the folder below DATA, whose name is the teacher's where it holds rationales, and
        the prefixes' style."""
        folder = self._folder_of(split)
        style, _ = choices.task_choices()
        return {"records": folder.relative_to(registry.data_dir()).as_posix(), "prefixes": style}


def _gold_examples(dataset: Dataset) -> RecordsSource:
    def read(split: str, shuffle_files: bool = False, seed: int | None = None) -> tf.data.Dataset:
        notes = prepared_manifest(dataset.name)["notes"]
        unlabelled = [note for note in notes if note.startswith(f"{split} has ")]
        if unlabelled:
            raise ValueError(f"{dataset.name}_label: {unlabelled[0]}, not on {dataset.name}_label.")
        return _open(examples_folder(dataset.name), split, shuffle_files)

    return RecordsSource(read, dataset.splits, lambda split: examples_folder(dataset.name))


def _teaches(answer: Mapping[str, tf.Tensor]) -> tf.Tensor:
    """Whether a record holds a label and a rationale that meet the teacher's quality rules: bool []."""
    dropped = answer.get("dropped_reason", tf.constant(""))  # records of before there were rules have none
    return tf.logical_and(tf.equal(answer["unparsed_reason"], ""), tf.equal(dropped, ""))


def _answers(dataset: Dataset) -> RecordsSource:
    def read(split: str, shuffle_files: bool = False, seed: int | None = None) -> tf.data.Dataset:
        answers = _open(rationales_folder(dataset), split, shuffle_files)
        return answers.filter(_teaches)

    return RecordsSource(read, dataset.splits, lambda split: rationales_folder(dataset))


def _teacher_labels(dataset: Dataset) -> RecordsSource:
    """The teacher's labels to learn from; to evaluate, every question with its gold label, answered or not."""
    answers, gold_examples = _answers(dataset), _gold_examples(dataset)

    def read(split: str, shuffle_files: bool = False, seed: int | None = None) -> tf.data.Dataset:
        if split == "train":
            return answers.get_dataset(split, shuffle_files)
        examples = gold_examples.get_dataset(split, shuffle_files)
        return examples.map(lambda example: {**example, "teacher_label": example["label"]})

    def folder_of(split: str) -> Path:
        return rationales_folder(dataset) if split == "train" else examples_folder(dataset.name)

    return RecordsSource(read, dataset.splits, folder_of)


def _text_pair(task_id: int, targets: str) -> Callable[[tf.data.Dataset], tf.data.Dataset]:
    """Keeps what a task needs of a record: prefixed inputs, targets, and what scoring and reports show."""

    def pair(dataset: tf.data.Dataset) -> tf.data.Dataset:
        before = prefix(task_id)
        return dataset.map(
            lambda record: {
                "inputs": tf.strings.join([before, record["inputs"]]),
                "targets": record[targets],
                "gold_label": record["label"],
                "example_id": record["example_id"],
            },
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )

    return pair


def _task_ids(task_id: int) -> Callable[[tf.data.Dataset], tf.data.Dataset]:
    """Adds `task_ids`, int32 [length of targets]: comes last, when targets have their final length."""

    def add(dataset: tf.data.Dataset) -> tf.data.Dataset:
        return dataset.map(
            lambda example: {**example, "task_ids": tf.fill(tf.shape(example["targets"]), task_id)},
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )

    return add


def _gold_or_prediction(
    text: str, *, example: Mapping[str, Any] | None = None, is_target: bool = False
) -> str:
    """The text to score: a prediction as it is, for a target the gold label even where a teacher's is learnt."""
    if is_target and example is not None:
        text = example["gold_label"].decode("utf-8") or text
    return text.strip()


def accuracy_of(dataset: Dataset) -> Callable[[Sequence[str], Sequence[str]], dict[str, float]]:
    """The dataset's metric as SeqIO calls it: percent of predictions that match (`registry.labels_match`)."""

    def accuracy(targets: Sequence[str], predictions: Sequence[str]) -> dict[str, float]:
        correct = sum(
            registry.labels_match(dataset, predicted, gold)
            for gold, predicted in zip(targets, predictions, strict=True)
        )
        return {
            "accuracy": 100.0 * correct / max(len(targets), 1),
            "num_correct": correct,
            "num_examples": len(targets),
        }

    return accuracy


def register_tasks(dataset: Dataset) -> None:
    """Registers <name>_label, _teacher_label, _rationale, and the mixtures _step_by_step and _step_by_step_teacher_label."""
    words = embedded_vocabulary() if dataset.embedded else vocabulary()
    add_task = functools.partial(
        _add_task,
        words=words,
    )
    metrics = [accuracy_of(dataset)]
    name = dataset.name
    add_task(f"{name}_label", _gold_examples(dataset), LABEL_TASK_ID, "label", metrics=metrics)
    add_task(
        f"{name}_teacher_label", _teacher_labels(dataset), LABEL_TASK_ID, "teacher_label", metrics=metrics
    )
    add_task(f"{name}_rationale", _answers(dataset), RATIONALE_TASK_ID, "rationale", metrics=[])
    for mixture, label_task in (("step_by_step", "label"), ("step_by_step_teacher_label", "teacher_label")):
        seqio.MixtureRegistry.add(
            f"{name}_{mixture}", [f"{name}_{label_task}", f"{name}_rationale"], default_rate=1.0
        )


def _add_task(
    name: str,
    source: RecordsSource,
    task_id: int,
    targets: str,
    *,
    words: seqio.Vocabulary,
    metrics: Sequence[Callable[..., Any]],
) -> None:
    seqio.TaskRegistry.add(
        name,
        source=source,
        preprocessors=[
            _text_pair(task_id, targets),
            functools.partial(seqio.preprocessors.tokenize, copy_pretokenized=True),
            seqio.preprocessors.append_eos_after_trim,
            _task_ids(task_id),
        ],
        output_features={
            "inputs": seqio.Feature(words, add_eos=True),
            "targets": seqio.Feature(words, add_eos=True),
            "task_ids": seqio.Feature(seqio.PassThroughVocabulary(3), add_eos=False, dtype=tf.int32),
        },
        postprocess_fn=_gold_or_prediction,
        metric_fns=list(metrics),
    )
