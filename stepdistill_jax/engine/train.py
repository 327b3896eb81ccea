"""The training loop: restore, next batch, step, log, evaluate, save."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import seqio

from stepdistill_jax.engine import checkpoints as checkpoints_lib
from stepdistill_jax.engine import models
from stepdistill_jax.engine.dataset_config import (
    DatasetConfig,
    get_dataset,
    verify_matching_vocabs,
)
from stepdistill_jax.engine.evaluation import RunEvaluation
from stepdistill_jax.engine.gin_utils import summarize_gin_config
from stepdistill_jax.engine.initialize import abstract_train_state, initial_train_state, num_parameters
from stepdistill_jax.engine.partitioning import PjitPartitioner
from stepdistill_jax.engine.run_recorder import RunRecorder
from stepdistill_jax.engine.train_state import FlaxOptimTrainState
from stepdistill_jax.engine.train_stream import TrainStream
from stepdistill_jax.engine.trainer import Trainer, check_microbatches


def train(
    *,
    model: models.BaseTransformerModel,
    train_dataset_cfg: DatasetConfig,
    train_eval_dataset_cfg: DatasetConfig | None,
    infer_eval_dataset_cfg: DatasetConfig | None,
    checkpoint_cfg: checkpoints_lib.CheckpointConfig,
    partitioner: PjitPartitioner,
    trainer_cls: Callable[..., Trainer],
    model_dir: str,
    total_steps: int,
    eval_steps: int | None,
    eval_period: int,
    relative_steps: int | None = None,
    stats_period: int | None = None,
    random_seed: int | None = None,
    use_hardware_rng: bool = False,
    summarize_config_fn: Callable[..., None] = summarize_gin_config,
    inference_evaluator_cls: Callable[..., seqio.Evaluator] = seqio.Evaluator,
    run_eval_before_training: bool = False,
) -> tuple[int, FlaxOptimTrainState]:
    """Trains a model in `model_dir`, going on from its newest checkpoint if it has one. T5X's arguments.

    Args:
      model: what is trained.
      train_dataset_cfg: the mixture to train on; `batch_size` is the global batch's rows.
      train_eval_dataset_cfg: evaluated under teacher forcing; None leaves it out.
      infer_eval_dataset_cfg: evaluated by decoding; None leaves it out.
      checkpoint_cfg: `save` None saves nothing, so nothing can be resumed; `restore` None begins from random parameters.
      partitioner: the mesh, and what lies where on it.
      trainer_cls: `Trainer` with its learning rate bound.
      model_dir: the run's folder (see `run_folder`).
      total_steps: the step to stop at, those of a restored checkpoint included.
      eval_steps: batches of each task in teacher-forced evaluation; None takes the whole split.
      eval_period: steps between evaluations; 0 evaluates at the end only.
      relative_steps: steps after the checkpoint that the run began with; `total_steps` then does not count.
      stats_period: steps between lines of a log and points of TensorBoard, default the smaller of 100 and eval_period.
      random_seed: of parameters, dropout and data order; None draws one, which is kept with the run.
      use_hardware_rng: a faster generator whose numbers differ between kinds of devices.
      summarize_config_fn: called as (model_dir, summary_writer, step) before the first step.
      inference_evaluator_cls: `seqio.Evaluator`, with what gin binds of it.
      run_eval_before_training: whether to evaluate the state that training begins with.

    Returns:
      (step, state) after the last step.

    Raises:
      ValueError: for settings that do not fit together, before anything is compiled.
      FloatingPointError: if a loss is not finite; it names the metric and the step.
    """
    if use_hardware_rng:
        jax.config.update("jax_default_prng_impl", "rbg")
    run = RunRecorder(
        Path(model_dir), checkpoint_cfg.save, eval_period=eval_period, stats_period=stats_period
    )
    restore = checkpoint_cfg.restore if run.resumes_at is None else None
    begin_with = checkpoints_lib.find_checkpoint(restore) if restore is not None else None
    seed, position = run.seed_and_position(random_seed)
    stream = _open_stream(model, train_dataset_cfg, partitioner, seed)

    first_batch = next(stream.batches(step=0, first_draw=0))[0]
    shapes = {name: (train_dataset_cfg.batch_size, *rows.shape[1:]) for name, rows in first_batch.items()}
    types = {name: rows.dtype for name, rows in first_batch.items()}
    abstract_state = abstract_train_state(model, shapes, types)
    axes = partitioner.get_mesh_axes(abstract_state)
    init_rng, dropout_rng = jax.random.split(jax.random.key(seed))
    trainer = trainer_cls(model=model, train_state_axes=axes, partitioner=partitioner, rng=dropout_rng)
    check_microbatches(train_dataset_cfg.batch_size, trainer.num_microbatches, partitioner.data_mesh_size)
    evaluation = RunEvaluation(
        model, trainer, partitioner, axes, train_eval_dataset_cfg, infer_eval_dataset_cfg, inference_evaluator_cls,
        eval_steps=eval_steps, log_dir=run.model_dir,
    )  # fmt: skip

    if run.resumes_at is not None:
        state = checkpoints_lib.restore_checkpoint(run.checkpoint_path, abstract_state, partitioner)
    elif begin_with is not None:
        state = checkpoints_lib.restore_checkpoint(
            begin_with, abstract_state, partitioner, dtype=checkpoint_cfg.restore.dtype
        )
    else:
        state = initial_train_state(model, init_rng, shapes, types, partitioner, axes)
    first_step = run.begin(
        step=int(state.step),
        facts={
            "seed": seed,
            "num_parameters": num_parameters(abstract_state),
            **_stream_settings(train_dataset_cfg),
        },
        summarize_config_fn=summarize_config_fn,
    )
    last_step = first_step + relative_steps if relative_steps is not None else total_steps
    if begin_with is not None and int(state.step) >= last_step:
        raise ValueError(
            f"total_steps={last_step}, but {begin_with} is at step {int(state.step)}: nothing would be trained; set "
            "relative_steps, or a larger total_steps."
        )
    if run_eval_before_training and run.resumes_at is None:
        run.log_evaluation(evaluation.run(state))

    try:
        state = _loop(run, trainer, evaluation, partitioner, stream, state, position, last_step, seed)
    finally:
        run.close()
        evaluation.close()
    return int(state.step), state


def _loop(
    run: RunRecorder,
    trainer: Trainer,
    evaluation: RunEvaluation,
    partitioner: PjitPartitioner,
    stream: TrainStream,
    state: FlaxOptimTrainState,
    position: int,
    last_step: int,
    seed: int,
) -> FlaxOptimTrainState:
    """The steps from the state's on to `last_step`."""
    step = int(state.step)
    batches = stream.batches(step=step, first_draw=position)
    run.start_progress(step, last_step)
    while step < last_step:
        batch, next_draw = next(batches)
        state, metrics, learning_rate = trainer.train_step(state, partitioner.global_batch(batch))
        step += 1
        run.log_step(step, metrics, learning_rate, batch)
        evaluate, save = run.due(step, last_step)
        if evaluate or save:
            run.pause()
            if evaluate:
                run.log_evaluation(evaluation.run(state))
            if save:
                run.save(step, state, checkpoints_lib.StreamPosition(seed=seed, next_draw=next_draw))
            run.resume()
    return state


def _stream_settings(cfg: DatasetConfig) -> dict[str, Any]:
    """What the stream's position means nothing without: it must not change when a run goes on."""
    return {
        "mixture_or_task_name": cfg.mixture_or_task_name,
        "split": cfg.split,
        "batch_size": cfg.batch_size,
        "pack": cfg.pack,
        "task_feature_lengths": dict(cfg.task_feature_lengths),
    }


def _open_stream(
    model: models.BaseTransformerModel, cfg: DatasetConfig, partitioner: PjitPartitioner, seed: int
) -> TrainStream:
    layout = partitioner.get_data_layout(cfg.batch_size)
    verify_matching_vocabs(cfg, model)
    return get_dataset(cfg, layout.shard_id, layout.num_shards, model.FEATURE_CONVERTER_CLS, seed=seed)
