"""Evaluation of a checkpoint on a task or mixture, through SeqIO's evaluator."""

import sys
from collections.abc import Callable
from typing import Any

import jax
import seqio

from stepdistill_jax.engine import models, run_folder
from stepdistill_jax.engine.checkpoints import RestoreCheckpointConfig
from stepdistill_jax.engine.dataset_config import DatasetConfig
from stepdistill_jax.engine.evaluation import InferenceEvaluator
from stepdistill_jax.engine.gin_utils import summarize_gin_config
from stepdistill_jax.engine.partitioning import PjitPartitioner
from stepdistill_jax.engine.restored_model import restore_model
from stepdistill_jax.engine.run_folder import JsonLines


def evaluate(
    *,
    model: models.BaseTransformerModel,
    dataset_cfg: DatasetConfig,
    restore_checkpoint_cfg: RestoreCheckpointConfig,
    partitioner: PjitPartitioner,
    output_dir: str,
    inference_evaluator_cls: Callable[..., seqio.Evaluator] = seqio.Evaluator,
    summarize_config_fn: Callable[..., None] = summarize_gin_config,
) -> list[dict[str, Any]]:
    """Decodes and scores every task of `dataset_cfg` that has metrics. T5X's arguments.

    Writes output_dir/metrics.jsonl, predictions/ and inference_eval/ (SeqIO's loggers).

    Returns:
      A row a task: {'step', 'split', 'task', 'accuracy', …}.

    Raises:
      ValueError: if output_dir is a training run's own folder, whose metrics would be lost.
    """
    folder = run_folder.output_folder(output_dir)
    partitioner.get_data_layout(dataset_cfg.batch_size)
    evaluator = InferenceEvaluator(dataset_cfg, inference_evaluator_cls, model, partitioner, folder)
    if not evaluator.eval_tasks:
        raise ValueError(
            f"{dataset_cfg.mixture_or_task_name}: no task with metrics has a split '{dataset_cfg.split}'; evaluate a "
            "label task."
        )
    restored = restore_model(model, restore_checkpoint_cfg, partitioner)
    rows = evaluator.evaluate(restored.state, restored.axes)
    evaluator.close()
    if jax.process_index() == 0:
        summarize_config_fn(str(folder), None, int(restored.state.step))
        log = JsonLines(folder / "metrics.jsonl", keep_up_to_step=-1)
        for row in rows:
            log.write(row)
            correct = f" ({row['num_correct']} of {row['num_examples']})" if "num_correct" in row else ""
            print(
                f"{row['task']} {row['split']} at step {row['step']}: accuracy {row.get('accuracy', float('nan')):.2f} %"
                f"{correct}",
                file=sys.stderr,
            )
        log.sync()
        log.close()
    return rows
