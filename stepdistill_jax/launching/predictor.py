"""Answers of a trained student to questions given as text."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from t5x import models, partitioning, utils

from stepdistill_jax.base.messages import say_once
from stepdistill_jax.base.text_fit import fit_of_texts, share
from stepdistill_jax.datasets import LABEL_TASK_ID, RATIONALE_TASK_ID, scoring, spelling
from stepdistill_jax.datasets.prefixes import prefix
from stepdistill_jax.datasets.text_vocabularies import TextVocabulary
from stepdistill_jax.engine.evaluate import rows_at_once
from stepdistill_jax.engine.evaluate.inference import get_infer_fn, prediction_step
from stepdistill_jax.engine.evaluate.prompt_rows import prompt_row
from stepdistill_jax.engine.evaluate.restored_model import restore_model
from stepdistill_jax.engine.model import base_model
from stepdistill_jax.launching import task_modules

MAX_TOKENS = 256


def answer(
    texts: Sequence[str],
    *,
    model: models.BaseTransformerModel,
    partitioner: partitioning.PjitPartitioner,
    restore_checkpoint_cfg: utils.RestoreCheckpointConfig,
    mixture_or_task_name: str | None = None,
    task_feature_lengths: Mapping[str, int] | None = None,
    rationale: bool = False,
) -> list[str]:
    """The student's label, or rationale, for each text.

    Standard error says how many texts the vocabulary changes, how many are longer than any that was trained on, and how many
    answers are cut.

    Args:
      texts: questions as the dataset words them, without a task prefix; any length.
      model: as trained.
      partitioner: of parameters and batch.
      restore_checkpoint_cfg: the checkpoint.
      mixture_or_task_name: what it was trained on, which says where an answer has its label; None takes the whole answer.
      task_feature_lengths: of its training, whose inputs were cut at them; None says nothing of longer texts.
      rationale: whether the rationale task is asked.
    """
    task_id = RATIONALE_TASK_ID if rationale else LABEL_TASK_ID
    restored = restore_model(model, restore_checkpoint_cfg, partitioner)
    words = model.input_vocabulary
    line_break = spelling.line_break_word(words)
    written = [prefix(task_id) + spelling.write_line_breaks(text, line_break) for text in texts]
    rows = [np.array([*words.encode(text), words.eos_id], np.int32) for text in written]
    _say_what_does_not_fit(written, rows, words, (task_feature_lengths or {}).get("inputs"))
    longest, features = max(map(len, rows)), base_model.feature_names(model)

    def examples() -> Iterator[tuple[int, dict[str, np.ndarray]]]:
        for index, row in enumerate(rows):
            yield index, prompt_row(features, row, inputs_length=longest, targets_length=MAX_TOKENS)

    infer = get_infer_fn(
        prediction_step(model, MAX_TOKENS),
        rows_at_once.AUTO,
        restored.axes,
        partitioner,
        targets_length=MAX_TOKENS,
    )
    answers = [[int(token) for token in tokens] for _, tokens in infer(examples(), restored.state)]
    num_cut = sum(model.output_vocabulary.eos_id not in tokens for tokens in answers)
    if num_cut:
        say_once(
            f"{share(num_cut, len(answers))} answers are cut: they have no end within {MAX_TOKENS} tokens."
        )
    if mixture_or_task_name and not rationale:
        read = _label_reader(mixture_or_task_name, model.output_vocabulary)
    else:
        read = lambda text: spelling.read_line_breaks(text, line_break).strip()  # noqa: E731
    return [read(model.output_vocabulary.decode(tokens)) for tokens in answers]


def _say_what_does_not_fit(
    texts: Sequence[str], rows: Sequence[np.ndarray], words: TextVocabulary, trained_on: int | None
) -> None:
    fit = fit_of_texts(words, texts)
    for sentence in fit.sentences("{} texts") + fit.line_break_sentences("{} texts"):
        say_once(sentence)
    num_longer = sum(len(row) > trained_on for row in rows) if trained_on is not None else 0
    if num_longer:
        say_once(
            f"{share(num_longer, len(rows))} texts are longer than the {trained_on:,} tokens that training cut inputs at; they are "
            f"read whole, the longest has {max(map(len, rows)):,}."
        )


def _label_reader(mixture_or_task_name: str, words: TextVocabulary) -> Callable[[str], str]:
    """How the task that is scored reads an answer: '' where it holds no label."""
    if (reader := scoring.label_reader(mixture_or_task_name, words)) is not None:
        return reader
    task_modules.load_tasks()  # a user's own SeqIO task says so itself
    import seqio

    tasks = seqio.get_subtasks(seqio.get_mixture_or_task(mixture_or_task_name))
    scored = [task for task in tasks if task.predict_metric_fns]
    return lambda text: scored[0].postprocess_fn(text, is_target=False) if scored else text.strip()
