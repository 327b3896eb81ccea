"""Evaluation of checkpoints on a task or mixture, through SeqIO's evaluator."""

import dataclasses
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import seqio

from stepdistill_jax.base.text_fit import FeatureFit, TaskFit
from stepdistill_jax.base.visible import visible
from stepdistill_jax.base.whole_files import JsonLines
from stepdistill_jax.engine.checkpoint.checkpoint_config import RestoreCheckpointConfig
from stepdistill_jax.engine.config.gin_utils import summarize_gin_config
from stepdistill_jax.engine.data import contents
from stepdistill_jax.engine.data.dataset_config import DatasetConfig, get_training_eval_datasets
from stepdistill_jax.engine.data.train_stream import TrainStream
from stepdistill_jax.engine.evaluate import inference_files, rows_at_once
from stepdistill_jax.engine.evaluate.evaluation import InferenceEvaluator, teacher_forced_losses
from stepdistill_jax.engine.evaluate.restored_model import restore_models
from stepdistill_jax.engine.loop import run_folder
from stepdistill_jax.engine.model import base_model
from stepdistill_jax.engine.partition.partitioning import PjitPartitioner
from stepdistill_jax.engine.step.initialize import TrainStateInitializer
from stepdistill_jax.engine.step.trainer import Trainer

Row = dict[str, Any]


def evaluate(
    *,
    model: base_model.BaseTransformerModel,
    dataset_cfg: DatasetConfig,
    restore_checkpoint_cfg: RestoreCheckpointConfig,
    partitioner: PjitPartitioner,
    output_dir: str,
    inference_evaluator_cls: Callable[..., seqio.Evaluator] | None = None,
    training_evaluator_cls: Callable[..., Trainer] | None = None,
    summarize_config_fn: Callable[..., None] = summarize_gin_config,
    train_state_initializer_cls: Callable[..., TrainStateInitializer] = TrainStateInitializer,
    train_eval_get_dataset_fn: Callable[..., Mapping[str, TrainStream]] = get_training_eval_datasets,
    fallback_init_rng: int | None = None,
    use_orbax: bool = True,
) -> list[Row]:
    """Decodes and scores every task of `dataset_cfg` that has metrics. T5X's arguments.

    Writes output_dir/metrics.jsonl, predictions/ and inference_eval/ (SeqIO's loggers).

    Args:
      restore_checkpoint_cfg: one checkpoint, or with mode 'all' or several paths each of them in turn.
      inference_evaluator_cls: `seqio.Evaluator`, with what gin binds of it; None is that without bindings.
      training_evaluator_cls: `trainer.Trainer`, to measure teacher-forced losses as well; None leaves that out.
      train_state_initializer_cls: gives the parameters' names and shapes.
      train_eval_get_dataset_fn: gives the data of teacher-forced losses.
      fallback_init_rng: seed of the parameters that a checkpoint lacks, where `fallback_to_scratch` allows that.
      use_orbax: taken for T5X's sake; both layouts are read.

    Returns:
      A row a checkpoint, kind of evaluation and task: {'step', 'split', 'task', 'accuracy', …}; `num_inputs_cut` and
      `num_inputs_changed`, by the vocabulary, where there are such inputs.

    Raises:
      ValueError: if output_dir is a training run's own folder, whose metrics would be lost.
    """
    folder = inference_files.output_folder(output_dir)
    if dataset_cfg.batch_size != rows_at_once.AUTO:
        partitioner.get_data_layout(dataset_cfg.batch_size)
    evaluator = InferenceEvaluator(dataset_cfg, inference_evaluator_cls, model, partitioner, folder)
    if not evaluator.eval_tasks:
        raise ValueError(
            f"{dataset_cfg.mixture_or_task_name}: no task with metrics has a split '{dataset_cfg.split}'; evaluate a "
            "label task."
        )
    fits = evaluator.say_fit()
    streams = {}
    if training_evaluator_cls is not None:
        cfg = dataclasses.replace(dataset_cfg, batch_size=rows_at_once.number_of(dataset_cfg.batch_size))
        layout = partitioner.get_data_layout(cfg.batch_size)
        streams = train_eval_get_dataset_fn(
            cfg, layout.shard_id, layout.num_shards, None, model.FEATURE_CONVERTER_CLS
        )
    rows: list[Row] = []
    for restored in restore_models(
        model,
        restore_checkpoint_cfg,
        partitioner,
        init_seed=fallback_init_rng,
        initializer_cls=train_state_initializer_cls,
    ):
        run = Path(restored.path).parent
        contents.check_unchanged([dataset_cfg], run, run_folder.read_run_json(run))
        if streams:
            trainer = training_evaluator_cls(
                model=model,
                train_state_axes=restored.axes,
                partitioner=partitioner,
                rng=jax.random.key(0),
                learning_rate_fn=None,
                num_microbatches=None,
            )
            rows += teacher_forced_losses(
                trainer, restored.state, streams, partitioner, split=dataset_cfg.split, max_batches=None
            )
        rows += [
            row | _misfits(fits[row["task"]]) for row in evaluator.evaluate(restored.state, restored.axes)
        ]
    evaluator.close()
    if jax.process_index() == 0:
        summarize_config_fn(str(folder), None, rows[-1]["step"])
        _write(rows, folder)
    return rows


def _misfits(fit: TaskFit) -> Row:
    """How many inputs were cut, and how many the vocabulary changed, where there are such."""
    inputs = fit.features.get("inputs", FeatureFit())
    counts = {"num_inputs_cut": inputs.num_cut, "num_inputs_changed": inputs.num_changed}
    return {name: count for name, count in counts.items() if count}


def _write(rows: list[Row], folder: Any) -> None:
    log = JsonLines(folder / "metrics.jsonl", keep_up_to_step=-1)
    for row in rows:
        log.write(row)
        correct = f" ({row['num_correct']} of {row['num_examples']})" if "num_correct" in row else ""
        accuracy = f"accuracy {row.get('accuracy', float('nan')):.2f} %{correct}"
        shown = f"loss {row['loss']:.4g}" if "loss" in row else accuracy
        print(visible(f"{row['task']} {row['split']} at step {row['step']}: {shown}"), file=sys.stderr)
    log.sync()
    log.close()
