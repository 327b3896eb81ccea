"""Answers of a trained student to questions given as text."""

from collections.abc import Sequence

import jax
import numpy as np
from t5x import models, partitioning, utils

from stepdistill_jax.datasets import LABEL_TASK_ID, RATIONALE_TASK_ID
from stepdistill_jax.datasets.seqio_tasks import prefix
from stepdistill_jax.engine.restored_model import restore_model

MAX_TOKENS = {LABEL_TASK_ID: 32, RATIONALE_TASK_ID: 256}


def answer(
    texts: Sequence[str],
    *,
    model: models.EncoderDecoderModel,
    partitioner: partitioning.PjitPartitioner,
    restore_checkpoint_cfg: utils.RestoreCheckpointConfig,
    rationale: bool = False,
) -> list[str]:
    """The student's label, or rationale, for each text.

    Args:
      texts: questions as the dataset words them, without a task prefix; any length.
      model: as trained.
      partitioner: of parameters and batch.
      restore_checkpoint_cfg: the checkpoint.
      rationale: whether the rationale task is asked.
    """
    task_id = RATIONALE_TASK_ID if rationale else LABEL_TASK_ID
    restored = restore_model(model, restore_checkpoint_cfg, partitioner)
    vocabulary = model.input_vocabulary
    rows = [[*vocabulary.encode(prefix(task_id) + text), vocabulary.eos_id] for text in texts]
    num_rows = -(-len(rows) // partitioner.data_mesh_size) * partitioner.data_mesh_size
    inputs = np.zeros([num_rows, max(map(len, rows))], np.int32)
    for row, tokens in zip(inputs, rows, strict=False):
        row[: len(tokens)] = tokens
    targets = np.zeros([num_rows, MAX_TOKENS[task_id]], np.int32)
    batch = {
        "encoder_input_tokens": inputs,
        "decoder_input_tokens": targets,
        "decoder_target_tokens": targets,
    }
    predict = partitioner.partition(
        lambda params, batch: model.predict_batch(params, batch),
        in_axis_resources=(restored.axes.params, partitioner.data_partition_spec),
        out_axis_resources=jax.sharding.PartitionSpec(),
    )
    decodes = np.asarray(predict(restored.state.params, partitioner.global_batch(batch)))
    return [model.output_vocabulary.decode(row.tolist()).strip() for row in decodes[: len(texts)]]
