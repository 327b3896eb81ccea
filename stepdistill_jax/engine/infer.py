"""Predictions or scores for every example of a task, as JSON lines."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import seqio

from stepdistill_jax.engine import models, run_folder
from stepdistill_jax.engine.checkpoints import RestoreCheckpointConfig
from stepdistill_jax.engine.dataset_config import DatasetConfig, get_mixture_or_task, verify_matching_vocabs
from stepdistill_jax.engine.gin_utils import summarize_gin_config
from stepdistill_jax.engine.inference import get_infer_fn
from stepdistill_jax.engine.partitioning import PjitPartitioner
from stepdistill_jax.engine.restored_model import restore_model
from stepdistill_jax.engine.run_folder import write_atomically


def infer(
    *,
    mode: str,
    model: models.BaseTransformerModel,
    dataset_cfg: DatasetConfig,
    restore_checkpoint_cfg: RestoreCheckpointConfig,
    partitioner: PjitPartitioner,
    output_dir: str,
    checkpoint_period: int = 100,
    shard_id: int = 0,
    num_shards: int = 1,
    summarize_config_fn: Callable[..., None] = summarize_gin_config,
) -> list[Path]:
    """Runs a checkpoint over a task, or each task of a mixture. T5X's arguments.

    Args:
      mode: 'predict' decodes the targets; 'score' gives the log-likelihood of those given; 'predict_with_aux' both
        decodes and gives each decode's own score.
      checkpoint_period: taken for T5X's sake; a shard's file is written whole or not at all.
      shard_id, num_shards: this job's part of the examples, every num_shards-th.

    Returns:
      The files: output_dir/<task>-<mode>.jsonl-SSSSS-of-NNNNN, {"inputs": …, "prediction" or "score": …} a line.
    """
    steps = {
        "predict": model.predict_batch,
        "score": model.score_batch,
        "predict_with_aux": model.predict_batch_with_aux,
    }
    if mode not in steps:
        raise ValueError(f"infer.mode={mode!r}; use one of {', '.join(steps)}.")
    if not 0 <= shard_id < num_shards:
        raise ValueError(f"infer.shard_id={shard_id} is not below num_shards={num_shards}.")
    folder = run_folder.output_folder(output_dir)
    partitioner.get_data_layout(dataset_cfg.batch_size)
    provider = get_mixture_or_task(dataset_cfg)
    verify_matching_vocabs(dataset_cfg, model)
    restored = restore_model(model, restore_checkpoint_cfg, partitioner)
    infer_fn = get_infer_fn(
        lambda params, batch: steps[mode](params, batch), dataset_cfg.batch_size, restored.axes, partitioner
    )
    files = []
    for task in seqio.get_subtasks(provider):
        examples = list(_examples(task, dataset_cfg, shard_id, num_shards))
        converted = _converted(model, task, dataset_cfg, shard_id, num_shards, examples)
        outputs = infer_fn(converted.enumerate(), restored.state)
        vocabulary = task.output_features["targets"].vocabulary
        lines = [
            _line(example, mode, output, vocabulary)
            for example, (_, output) in zip(examples, outputs, strict=True)
        ]
        path = folder / f"{task.name}-{mode}.jsonl-{shard_id:05d}-of-{num_shards:05d}"
        if jax.process_index() == 0:
            write_atomically(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
        files.append(path)
    if jax.process_index() == 0:
        summarize_config_fn(str(folder), None, int(restored.state.step))
    return files


def _dataset(task: seqio.Task, cfg: DatasetConfig, shard_id: int, num_shards: int):
    lengths = None if cfg.task_feature_lengths is None else dict(cfg.task_feature_lengths)
    dataset = task.get_dataset(
        sequence_length=lengths,
        split=cfg.split,
        shuffle=False,
        num_epochs=1,
        use_cached=cfg.use_cached,
        seed=cfg.seed,
    )
    return dataset.shard(num_shards, shard_id)


def _examples(
    task: seqio.Task, cfg: DatasetConfig, shard_id: int, num_shards: int
) -> Iterator[dict[str, Any]]:
    yield from _dataset(task, cfg, shard_id, num_shards).as_numpy_iterator()


def _converted(
    model, task, cfg: DatasetConfig, shard_id: int, num_shards: int, examples: list[dict[str, Any]]
):
    if not examples:
        raise ValueError(f"{task.name}/{cfg.split}: no examples in shard {shard_id} of {num_shards}.")
    converter = model.FEATURE_CONVERTER_CLS(pack=False)
    longest = {name: max(len(example[name]) for example in examples) for name in converter.TASK_FEATURES}
    return converter(
        _dataset(task, cfg, shard_id, num_shards), {**longest, **(cfg.task_feature_lengths or {})}
    )


def _line(example: dict[str, Any], mode: str, output: Any, vocabulary: seqio.Vocabulary) -> dict[str, Any]:
    line = {name: value.decode("utf-8") for name, value in example.items() if isinstance(value, bytes)}
    if mode == "score":
        return {**line, "score": float(output)}
    tokens, aux = output if mode == "predict_with_aux" else (output, None)
    line["prediction"] = vocabulary.decode([int(token) for token in tokens])
    if aux is not None:
        line["aux"] = {name: np.asarray(value).tolist() for name, value in aux.items()}
    return line
