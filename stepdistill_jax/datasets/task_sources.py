"""Where SeqIO tasks get their rows: prepared examples, a teacher's answers to them, or both joined, as plain texts."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import seqio
import tensorflow as tf
import tensorflow_datasets as tfds

from stepdistill_jax.base import locations
from stepdistill_jax.datasets import choices, record_io, registry, spelling, subsets
from stepdistill_jax.datasets.dataset import Dataset
from stepdistill_jax.datasets.lineage.changes import changes
from stepdistill_jax.datasets.lineage.leaks import SplitOf
from stepdistill_jax.datasets.lineage.mixed_data import settle
from stepdistill_jax.datasets.lineage.reading import Reading, identities, problems
from stepdistill_jax.datasets.preparation import examples_folder, prepared_manifest

# Which rows a source has. Those of the first and the last are all of a split's examples.
EXAMPLES = "examples"
ANSWERS = "answers"  # those examples that the teacher has answered with a rationale and a label
EXAMPLES_WITH_RATIONALES = "examples with rationales"  # '' where an example is not among the answers

Row = Mapping[str, tf.Tensor]


def rationales_folder(dataset: Dataset, data_dir: Path | None = None, *, teacher: str | None = None) -> Path:
    """DATA/<name>/rationales/<teacher>: the teacher as given, or of `datasets.task_choices.teacher` or $STEPDISTILL_TEACHER,
    else the dataset's own teacher, else the only one.

    Raises:
      FileNotFoundError: if there is none, or several and none is named.
    """
    root = locations.data_dir(data_dir) / dataset.name / "rationales"
    named = teacher or choices.task_choices().teacher
    there = sorted(path.parent.name for path in root.glob(f"[!.]*/{record_io.MANIFEST}"))
    chosen = named or (dataset.default_teacher if dataset.default_teacher in there else None)
    if chosen is None and len(there) == 1:
        chosen = there[0]
    if chosen in there:
        return root / chosen
    if chosen is None and there:
        raise FileNotFoundError(
            f"{root} has several teachers, {', '.join(there)}: name one, by the macro TEACHER or STEPDISTILL_TEACHER."
        )
    prepared_manifest(dataset.name, data_dir)  # without examples there is nothing to answer yet
    raise FileNotFoundError(
        f"No rationales{f' of {chosen}' if chosen else ''} in {root}; run: stepdistill teach {dataset.name} --teacher …"
    )


class MissingSplit(ValueError, LookupError):
    """The records were written without this split (a teacher that has answered the training questions only)."""


def _open(folder: Path, split: str, shuffle_files: bool) -> tf.data.Dataset:
    record_io.verify_once(folder)
    builder = tfds.builder_from_directory(str(folder))
    if split not in builder.info.splits:
        raise MissingSplit(f"{folder} has no split '{split}'; it has {', '.join(builder.info.splits)}.")
    config = tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False)
    return builder.as_dataset(split, shuffle_files=shuffle_files, read_config=config)


class RecordsSource(seqio.FunctionDataSource):
    """The rows of a task of a dataset, each five texts: example_id, inputs, label, rationale, gold_label.

    `label` is what is learnt, the gold one or the teacher's, in the dataset's `label_words`; `gold_label` is what answers are
    scored by; `rationale` is ''
    where rows are EXAMPLES. Of the train split a source gives the part that `choices.task_choices` says, and the
    augmentation behind it.
    """

    def __init__(
        self,
        dataset: Dataset,
        rows: str,
        *,
        evaluated: str | None = None,
        teacher_labels: bool = False,
        needs_labels: bool = True,
    ) -> None:
        """Args:
        dataset: whose records are read, when rows are asked for.
        rows: EXAMPLES, ANSWERS or EXAMPLES_WITH_RATIONALES.
        evaluated: the same of validation and test; None is as `rows`.
        teacher_labels: whether the train split's labels are the teacher's (of ANSWERS).
        needs_labels: whether rows without a label are an error.
        """
        super().__init__(dataset_fn=self._read, splits=dataset.splits)
        self._dataset, self._teacher_labels, self._needs_labels = dataset, teacher_labels, needs_labels
        self._rows = {split: evaluated or rows for split in dataset.splits} | {"train": rows}

    def content_id(self, split: str) -> str:
        """What token ids depend on beside the preprocessors' code: the records' checksums, and what is chosen of them."""
        folders = self._folders(split)
        chosen = choices.task_choices()
        if split == "train" and chosen.train_share < 1:
            folders = [*folders, examples_folder(self._dataset.name)]
        if split == "train" and chosen.augmentation:
            folders = [*folders, *_augmentation_folders(chosen)]
        for folder in folders:  # kept token ids or not
            record_io.verify_once(folder)
        settle(problems([self._reading(split)]))
        return f"{[record_io.content_id(folder) for folder in folders]} {self.facts(split)}"

    def facts(self, split: str) -> dict[str, str]:
        """What a run records of its data: folders below DATA, whose names are the teacher's where they hold rationales, the
        prefixes' style, what of the train split was chosen, and how texts are written."""
        chosen = choices.task_choices()
        facts = {"records": " + ".join(map(_below_data, self._folders(split))), "prefixes": chosen.prefixes}
        if split == "train" and chosen.train_share < 1:
            facts |= {"train_share": str(chosen.train_share)}
        if split == "train" and chosen.augmentation:
            _, answers = _augmentation_folders(chosen)
            facts |= {
                "augmentation": _below_data(answers),
                "augmentation_share": str(chosen.augmentation_share),
            }
        if len(facts) > 2:
            facts["subset_seed"] = str(chosen.subset_seed)
        if chosen.keep_newlines is not None:
            facts["keep_newlines"] = chosen.keep_newlines
        if self._dataset.label_words:
            facts["label_words"] = json.dumps(self._dataset.label_words, sort_keys=True, ensure_ascii=False)
        return facts

    def contents(self, split: str, *, whole_dataset: bool = False) -> dict[str, dict[str, Any]]:
        """'FOLDER/SPLIT', below DATA, of all that is read for a split, to its `Identity`; and of the dataset's other splits."""
        return identities(self._reading(split), whole_dataset=whole_dataset)

    def check_unchanged(self, earlier: Mapping[str, Mapping[str, Any]], split: str, place: Path) -> list[str]:
        """Checks that what is read for a split says what the run of `place` began with; gives what does not, and is allowed.

        Raises:
          MixedData: names the first part that differs.
        """
        return settle(changes(earlier, self.contents(split), place=place))

    @staticmethod
    def check_together(sources: Sequence[object], split: str) -> list[str]:
        """Checks that all that the tasks of a mixture read belongs together, and that no test question is learned from.

        Returns:
          What does not, and is allowed all the same.

        Raises:
          MixedData: names the first thing that does not.
        """
        ours = [source._reading(split) for source in sources if isinstance(source, RecordsSource)]
        return settle(problems(ours))

    def _reading(self, split: str) -> Reading:
        examples, folders = examples_folder(self._dataset.name), self._folders(split)
        answers = [(SplitOf(folder, split), examples) for folder in folders if folder != examples]
        rows = [SplitOf(folder, split) for folder in folders]
        chosen = choices.task_choices()
        if split == "train" and chosen.augmentation:
            others, answered = _augmentation_folders(chosen)
            answers.append((SplitOf(answered, split), others))
            rows.append(SplitOf(answered, split))
        return Reading(self._dataset, split, examples, tuple(rows), tuple(answers))

    def _folders(self, split: str) -> list[Path]:
        rows = self._rows[split]
        return [examples_folder(self._dataset.name)] * (rows != ANSWERS) + (
            [rationales_folder(self._dataset)] if rows != EXAMPLES else []
        )

    def _read(self, split: str, shuffle_files: bool = False, seed: int | None = None) -> tf.data.Dataset:
        settle(problems([self._reading(split)]))
        from_teacher = self._teacher_labels and split == "train"
        if self._needs_labels and not from_teacher:
            self._check_labels(split)
        dataset, rows = self._dataset, self._rows[split]
        records = _open(self._folders(split)[0], split, shuffle_files)
        chosen = choices.task_choices()
        if split == "train":
            records = _part(records, dataset, chosen.train_share, chosen.subset_seed)
        if rows == ANSWERS:
            texts = _answer_texts(records, label="teacher_label" if from_teacher else "label")
        else:
            rationale_of = _rationale_of(dataset, split) if rows == EXAMPLES_WITH_RATIONALES else None
            texts = _example_texts(records, rationale_of)
        if split == "train" and chosen.augmentation:
            texts = texts.concatenate(_augmentation(dataset, chosen, shuffle_files))
        _check_spelling(texts, dataset, chosen.keep_newlines)
        return _with_label_words(texts, dataset.label_words)

    def _check_labels(self, split: str) -> None:
        notes = prepared_manifest(self._dataset.name)["notes"]
        unlabelled = [note for note in notes if note.startswith(f"{split} has ")]
        if unlabelled:
            raise ValueError(f"{self._dataset.name}: {unlabelled[0]}, not on gold ones.")


def _below_data(folder: Path) -> str:
    return folder.relative_to(locations.data_dir()).as_posix()


def _teaches(answer: Row) -> tf.Tensor:
    """Whether a record holds a label and a rationale that meet the teacher's quality rules: bool []."""
    dropped = answer.get("dropped_reason", tf.constant(""))  # records of before there were rules have none
    return tf.logical_and(tf.equal(answer["unparsed_reason"], ""), tf.equal(dropped, ""))


def _answer_texts(answers: tf.data.Dataset, *, label: str) -> tf.data.Dataset:
    return answers.filter(_teaches).map(
        lambda answer: {
            "example_id": answer["example_id"],
            "inputs": answer["inputs"],
            "label": answer[label],
            "rationale": answer["rationale"],
            "gold_label": answer["label"],
        }
    )


def _example_texts(
    examples: tf.data.Dataset, rationale_of: Callable[[tf.Tensor], tf.Tensor] | None
) -> tf.data.Dataset:
    return examples.map(
        lambda example: {
            "example_id": example["example_id"],
            "inputs": example["inputs"],
            "label": example["label"],
            "rationale": rationale_of(example["example_id"]) if rationale_of else tf.constant(""),
            "gold_label": example["label"],
        }
    )


def _rationale_of(dataset: Dataset, split: str) -> Callable[[tf.Tensor], tf.Tensor]:
    """Looks up the teacher's rationale by the example's id: '' for one that has no answer that teaches.

    Nor is one read that was written with the gold label as a hint, but for training: it would tell the label at test time.
    """
    folder = rationales_folder(dataset)
    manifest = record_io.verify(folder)
    if split not in manifest["counts"]:
        raise MissingSplit(
            f"{folder} has no split '{split}', and the task reads rationales there too; it has "
            f"{', '.join(manifest['counts'])}: have the teacher answer it (stepdistill teach {dataset.name})."
        )
    wanted = ("example_id", "rationale", "unparsed_reason", "dropped_reason", "sampling")
    answers = [
        answer
        for answer in record_io.read_records(folder, split, features=wanted)
        if not answer["unparsed_reason"]
        and not answer.get("dropped_reason")
        and (split == "train" or not record_io.is_hinted(answer))
    ]
    table = _table([answer["example_id"] for answer in answers], [answer["rationale"] for answer in answers])
    return table.lookup


def _table(ids: list[str], values: list[str]) -> tf.lookup.StaticHashTable:
    """Text to text, '' where there is none."""
    ids, values = ids or [""], values or [""]  # TensorFlow has no empty tables
    pairs = tf.lookup.KeyValueTensorInitializer(tf.constant(ids, tf.string), tf.constant(values, tf.string))
    return tf.lookup.StaticHashTable(pairs, default_value="")


def _with_label_words(texts: tf.data.Dataset, words: Mapping[str, str]) -> tf.data.Dataset:
    """Rows whose `label` is what the student writes for it."""
    if not words:
        return texts
    table = _table(list(words), list(words.values()))

    def written(row: Row) -> Row:
        word = table.lookup(row["label"])
        return {**row, "label": tf.where(word == "", row["label"], word)}

    return texts.map(written)


def _check_spelling(texts: tf.data.Dataset, dataset: Dataset, line_break: str | None) -> None:
    """Checks that what is written for labels and line breaks can be read back: a pass over the rows where there are such words.

    Raises:
      ValueError: for a row that holds the word for a line break, or whose label is another label's word.
    """
    taken = sorted(set(dataset.label_words.values()) - dataset.label_words.keys())
    if taken and (row := _first(texts, lambda row: tf.reduce_any(row["label"] == tf.constant(taken)))):
        label = row["label"].decode()
        raise ValueError(
            f"{row['example_id'].decode()}: its label {label!r} is what label_words writes for "
            f"{spelling.read_label(dataset, label)!r}; choose another word for that."
        )
    if line_break is None:
        return
    pattern = f"(?s).*{re.escape(line_break)}.*"
    if row := _first(
        texts, lambda row: _any_matches([row["inputs"], row["label"], row["rationale"]], pattern)
    ):
        raise ValueError(
            f"{row['example_id'].decode()}: its text holds {line_break!r}, which task_choices.keep_newlines writes for a line "
            "break; choose another word."
        )


def _any_matches(texts: Sequence[tf.Tensor], pattern: str) -> tf.Tensor:
    return tf.reduce_any(tf.strings.regex_full_match(tf.stack(texts), pattern))


def _first(rows: tf.data.Dataset, condition: Callable[[Row], tf.Tensor]) -> dict[str, bytes] | None:
    return next(rows.filter(condition).take(1).as_numpy_iterator(), None)


def _part(records: tf.data.Dataset, dataset: Dataset, share: float, seed: int) -> tf.data.Dataset:
    """Those records of the train split that a share of its examples has (`subsets`)."""
    if share == 1:
        return records
    ids = subsets.chosen_ids(examples_folder(dataset.name), share=share, seed=seed)
    chosen = _table(ids, ids)
    return records.filter(lambda record: chosen.lookup(record["example_id"]) != "")


def _augmentation_folders(chosen: choices.TaskChoices) -> tuple[Path, Path]:
    """The folders of the augmentation's examples, and of its teacher's answers."""
    extra = registry.get(chosen.augmentation)
    return examples_folder(extra.name), rationales_folder(extra, teacher=chosen.augmentation_teacher)


def _augmentation(dataset: Dataset, chosen: choices.TaskChoices, shuffle_files: bool) -> tf.data.Dataset:
    """Another dataset's training questions with the teacher's labels, as if they had no gold ones."""
    extra = registry.get(chosen.augmentation)
    if extra.name == dataset.name:
        raise ValueError(
            f"task_choices.augmentation={extra.name!r} is the dataset itself; name another one, or None."
        )
    _, folder = _augmentation_folders(chosen)
    answers = _open(folder, "train", shuffle_files)
    answers = _part(answers, extra, chosen.augmentation_share, chosen.subset_seed)
    texts = _answer_texts(answers, label="teacher_label")
    return texts.map(lambda row: {**row, "gold_label": row["label"]})
