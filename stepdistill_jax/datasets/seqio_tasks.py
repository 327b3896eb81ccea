"""SeqIO tasks and mixtures of every registered dataset: one for each method of the paper."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import seqio
import tensorflow as tf

from stepdistill_jax.base.line_breaks import LINE_BREAK
from stepdistill_jax.base.methods import METHODS
from stepdistill_jax.datasets import scoring, spelling
from stepdistill_jax.datasets.dataset import LABEL_TASK_ID, RATIONALE_TASK_ID, Dataset
from stepdistill_jax.datasets.prefixes import prefix
from stepdistill_jax.datasets.task_sources import (
    ANSWERS,
    EXAMPLES,
    EXAMPLES_WITH_RATIONALES,
    RecordsSource,
    Row,
)
from stepdistill_jax.datasets.text_vocabularies import TextVocabulary
from stepdistill_jax.datasets.vocabularies import embedded_vocabulary, vocabulary

_TASKS = (
    "label",
    "teacher_label",
    "rationale",
    "rationale_then_label",
    "rationale_then_teacher_label",
    "rationale_as_input",
)
RATIONALE_FIELD = " rationale: "  # between question and rationale, where both are inputs

# A row's texts to a task's (inputs without prefix, targets).
Form = Callable[[Row], tuple[tf.Tensor, tf.Tensor]]


def _label(row: Row) -> tuple[tf.Tensor, tf.Tensor]:
    return row["inputs"], row["label"]


def _rationale(row: Row) -> tuple[tf.Tensor, tf.Tensor]:
    return row["inputs"], row["rationale"]


def _rationale_then_label(row: Row, *, marker: str) -> tuple[tf.Tensor, tf.Tensor]:
    """Eq. 5 of the paper: one target, in the form in which the teacher answers.

    'There are 3 and 2. The answer is ( 3.0 + 2.0 )', with the dataset's own answer marker.
    """
    return row["inputs"], tf.strings.strip(tf.strings.join([row["rationale"], f" {marker} ", row["label"]]))


def _rationale_as_input(row: Row) -> tuple[tf.Tensor, tf.Tensor]:
    """Eq. 2 of the paper (PINTO, Wang et al. 2022): the label given question and rationale."""
    return tf.strings.join([row["inputs"], RATIONALE_FIELD, row["rationale"]]), row["label"]


def _text_pair(
    task_id: int, form: Form, words: TextVocabulary
) -> Callable[[tf.data.Dataset], tf.data.Dataset]:
    """Prefixed inputs and targets of rows, and what scoring and reports show."""

    def pair(dataset: tf.data.Dataset) -> tf.data.Dataset:
        before, line_break = prefix(task_id), spelling.line_break_word(words)

        def example(row):
            inputs, targets, label = (
                _write_line_breaks(text, line_break) for text in (*form(row), row["label"])
            )
            texts = {
                "inputs": tf.strings.join([before, inputs]),
                "targets": targets,
                "gold_label": row["gold_label"],
                "example_id": row["example_id"],
            }
            # The part of the targets that must come back whole: see `fit_counting` of the engine.
            return {**texts, "learnt_label": label} if task_id == LABEL_TASK_ID else texts

        return dataset.map(example, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)

    return pair


def _write_line_breaks(text: tf.Tensor, word: str | None) -> tf.Tensor:
    """`line_breaks.write_line_breaks`, of a tf.string."""
    if word is None:
        return text
    return tf.strings.regex_replace(text, LINE_BREAK, f" {word} ".replace("\\", "\\\\"))


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
    text: str,
    *,
    dataset: Dataset,
    words: TextVocabulary,
    marker: str = "",
    example: Mapping[str, Any] | None = None,
    is_target: bool = False,
) -> str:
    """The text to score: of a target the gold label even where a teacher's is learnt, of a prediction what it says."""
    if is_target and example is not None and (gold := example["gold_label"].decode("utf-8").strip()):
        return spelling.as_read_back(gold, spelling.line_break_word(words))
    return scoring.label_in(text, dataset, words, marker=marker)


def accuracy_of(dataset: Dataset) -> Callable[[Sequence[str], Sequence[str]], dict[str, float]]:
    """The dataset's metric as SeqIO calls it: percent of predictions that match (`scoring.labels_match`)."""

    def accuracy(targets: Sequence[str], predictions: Sequence[str]) -> dict[str, float]:
        correct = sum(
            scoring.labels_match(dataset, predicted, gold)
            for gold, predicted in zip(targets, predictions, strict=True)
        )
        return {
            "accuracy": 100.0 * correct / max(len(targets), 1),
            "num_correct": correct,
            "num_examples": len(targets),
        }

    return accuracy


def register_tasks(dataset: Dataset) -> None:
    """Registers a dataset's tasks, by name behind '<name>_', and its mixtures.

    label, teacher_label, rationale: what the mixtures step_by_step and step_by_step_teacher_label are made of.
    rationale_then_label, rationale_then_teacher_label: one target of both (Eq. 5). rationale_as_input: Eq. 2.

    Whatever is learnt, evaluation is on every example of a split, by its gold label.
    """
    source = functools.partial(RecordsSource, dataset)
    then_label = functools.partial(_rationale_then_label, marker=dataset.completion.answer_marker)
    add = functools.partial(_add_task, dataset)
    add("label", source(EXAMPLES), _label)
    add("teacher_label", source(ANSWERS, evaluated=EXAMPLES, teacher_labels=True), _label)
    add("rationale", source(ANSWERS, needs_labels=False), _rationale, RATIONALE_TASK_ID)
    both = source(ANSWERS, evaluated=EXAMPLES_WITH_RATIONALES)
    add("rationale_then_label", both, then_label, marker=dataset.completion.answer_marker)
    both = source(ANSWERS, evaluated=EXAMPLES_WITH_RATIONALES, teacher_labels=True)
    add("rationale_then_teacher_label", both, then_label, marker=dataset.completion.answer_marker)
    add("rationale_as_input", source(EXAMPLES_WITH_RATIONALES), _rationale_as_input)
    for method in METHODS.values():
        if method.has_rationale_task:
            seqio.MixtureRegistry.add(
                f"{dataset.name}_{method.task_ending}",
                [f"{dataset.name}_{method.label_task}", f"{dataset.name}_rationale"],
                default_rate=1.0,
            )


def remove_tasks(dataset: Dataset) -> None:
    """Takes out what `register_tasks` has registered."""
    for method in METHODS.values():
        if method.has_rationale_task:
            seqio.MixtureRegistry.remove(f"{dataset.name}_{method.task_ending}")
    for ending in _TASKS:
        seqio.TaskRegistry.remove(f"{dataset.name}_{ending}")


def _add_task(
    dataset: Dataset,
    name: str,
    source: RecordsSource,
    form: Form,
    task_id: int = LABEL_TASK_ID,
    *,
    marker: str = "",
) -> None:
    """Registers a task; those that answer are scored, from behind the marker if one is given."""
    words = embedded_vocabulary() if dataset.embedded else vocabulary()
    seqio.TaskRegistry.add(
        f"{dataset.name}_{name}",
        source=source,
        preprocessors=[
            _text_pair(task_id, form, words),
            functools.partial(seqio.preprocessors.tokenize, copy_pretokenized=True),
            seqio.preprocessors.append_eos_after_trim,
            _task_ids(task_id),
        ],
        output_features={
            "inputs": seqio.Feature(words, add_eos=True),
            "targets": seqio.Feature(words, add_eos=True),
            "task_ids": seqio.Feature(seqio.PassThroughVocabulary(3), add_eos=False, dtype=tf.int32),
        },
        postprocess_fn=functools.partial(_gold_or_prediction, dataset=dataset, words=words, marker=marker),
        metric_fns=[accuracy_of(dataset)] if task_id == LABEL_TASK_ID else [],
    )
