"""Answers of a trained student to questions given as text."""

import functools
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from t5x import models, partitioning, utils

from stepdistill_jax.datasets import LABEL_TASK_ID, RATIONALE_TASK_ID, scoring
from stepdistill_jax.datasets.prefixes import prefix
from stepdistill_jax.engine.evaluate.inference import get_infer_fn
from stepdistill_jax.engine.evaluate.restored_model import restore_model
from stepdistill_jax.launching import task_modules

BATCH_SIZE = 64
MAX_TOKENS = 256


def answer(
    texts: Sequence[str],
    *,
    model: models.EncoderDecoderModel,
    partitioner: partitioning.PjitPartitioner,
    restore_checkpoint_cfg: utils.RestoreCheckpointConfig,
    mixture_or_task_name: str | None = None,
    rationale: bool = False,
) -> list[str]:
    """The student's label, or rationale, for each text.

    Args:
      texts: questions as the dataset words them, without a task prefix; any length.
      model: as trained.
      partitioner: of parameters and batch.
      restore_checkpoint_cfg: the checkpoint.
      mixture_or_task_name: what it was trained on, which says where an answer has its label; None takes the whole answer.
      rationale: whether the rationale task is asked.
    """
    task_id = RATIONALE_TASK_ID if rationale else LABEL_TASK_ID
    restored = restore_model(model, restore_checkpoint_cfg, partitioner)
    words = model.input_vocabulary
    rows = [np.array([*words.encode(prefix(task_id) + text), words.eos_id], np.int32) for text in texts]
    longest = max(map(len, rows))
    targets = np.zeros([MAX_TOKENS], np.int32)

    def examples() -> Iterator[tuple[int, dict[str, np.ndarray]]]:
        for index, row in enumerate(rows):
            inputs = np.pad(row, (0, longest - len(row)))
            yield index, {"encoder_input_tokens": inputs, "decoder_input_tokens": targets}

    batch_size = min(BATCH_SIZE, len(rows))
    batch_size = -(-batch_size // partitioner.data_mesh_size) * partitioner.data_mesh_size
    infer = get_infer_fn(
        lambda params, batch: model.predict_batch(params, batch), batch_size, restored.axes, partitioner
    )
    read = _label_reader(mixture_or_task_name) if mixture_or_task_name and not rationale else str.strip
    return [
        read(model.output_vocabulary.decode([int(token) for token in tokens]))
        for _, tokens in infer(examples(), restored.state)
    ]


def _label_reader(mixture_or_task_name: str) -> Callable[[str], str]:
    """How the task that is scored reads an answer: '' where it holds no label."""
    if (marker := scoring.marker_of(mixture_or_task_name)) is not None:
        return functools.partial(scoring.label_in, marker=marker)
    task_modules.load_tasks()  # a user's own SeqIO task says so itself
    import seqio

    tasks = seqio.get_subtasks(seqio.get_mixture_or_task(mixture_or_task_name))
    scored = [task for task in tasks if task.predict_metric_fns]
    return lambda text: scored[0].postprocess_fn(text, is_target=False) if scored else text.strip()
