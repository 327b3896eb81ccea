"""Training: what is set up for it, and what it begins with. The loop itself is `training_loop`.

What `train` takes can be read, and bound by gin, without TensorFlow; only a run imports it.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax

from stepdistill_jax.base.messages import say_once
from stepdistill_jax.engine.checkpoint import finding
from stepdistill_jax.engine.checkpoint.checkpoint_config import CheckpointConfig, RestoreCheckpointConfig
from stepdistill_jax.engine.checkpoint.state_restoring import restore_checkpoint
from stepdistill_jax.engine.cluster import preemption, run_owner
from stepdistill_jax.engine.config.gin_utils import summarize_gin_config
from stepdistill_jax.engine.data.dataset_config import (
    DatasetConfig,
    get_dataset,
    get_training_eval_datasets,
    source_facts,
)
from stepdistill_jax.engine.data.task_vocabularies import verify_matching_vocabs
from stepdistill_jax.engine.hardware import step_memory
from stepdistill_jax.engine.loop import progress
from stepdistill_jax.engine.loop.actions import BaseAction, RunActions
from stepdistill_jax.engine.model import base_model
from stepdistill_jax.engine.model.attention import choice
from stepdistill_jax.engine.optim.train_state import FlaxOptimTrainState
from stepdistill_jax.engine.partition.partitioning import PjitPartitioner
from stepdistill_jax.engine.step import ahead_of_time, fitting
from stepdistill_jax.engine.step.initialize import TrainStateInitializer, num_parameters
from stepdistill_jax.engine.step.trainer import Trainer

if TYPE_CHECKING:
    import seqio

    from stepdistill_jax.engine.data.tf_data_stream import TfDataStream
    from stepdistill_jax.engine.data.train_stream import TrainStream
    from stepdistill_jax.engine.loop.run_recorder import RunRecorder


def train(
    *,
    model: base_model.BaseTransformerModel,
    train_dataset_cfg: DatasetConfig,
    train_eval_dataset_cfg: DatasetConfig | None,
    infer_eval_dataset_cfg: DatasetConfig | None,
    checkpoint_cfg: CheckpointConfig,
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
    inference_evaluator_cls: Callable[..., seqio.Evaluator] | None = None,
    get_dataset_fn: Callable[..., TrainStream] = get_dataset,
    concurrent_metrics: bool = True,
    actions: Mapping[str, Sequence[BaseAction]] | None = None,
    train_eval_get_dataset_fn: Callable[..., Mapping[str, TrainStream]] = get_training_eval_datasets,
    run_eval_before_training: bool = False,
    train_state_initializer_cls: Callable[..., TrainStateInitializer] = TrainStateInitializer,
    use_orbax: bool = True,
    verify_matching_vocabs_fn: Callable[[DatasetConfig, base_model.BaseTransformerModel], None] | None = (
        verify_matching_vocabs
    ),
    gc_period: int = 0,
    log_examples: bool = False,
    describe_fn: Callable[..., None] | None = None,
) -> tuple[int, FlaxOptimTrainState]:
    """Trains a model in `model_dir`, going on from its newest checkpoint if it has one. T5X's arguments.

    Args:
      model: what is trained.
      train_dataset_cfg: the mixture to train on; `batch_size` is the global batch's rows.
      train_eval_dataset_cfg: evaluated under teacher forcing; None leaves it out.
      infer_eval_dataset_cfg: evaluated by decoding; None leaves it out.
      checkpoint_cfg: `save` None saves nothing, so nothing can be resumed; `restore` None begins from random parameters.
      partitioner: the mesh, and what lies where on it.
      trainer_cls: `Trainer` with its learning rate bound; its num_microbatches may be 'auto' (`step.fitting`).
      model_dir: the run's folder (see `run_folder`).
      total_steps: the step to stop at, those of a restored checkpoint included.
      eval_steps: batches of each task in teacher-forced evaluation; None takes the whole split.
      eval_period: steps between evaluations; 0 evaluates at the end only.
      relative_steps: steps after the checkpoint that the run began with; `total_steps` then does not count.
      stats_period: steps between lines of a log and points of TensorBoard, default the smaller of 100 and eval_period.
      random_seed: of parameters, dropout and data order; None draws one, which is kept with the run.
      use_hardware_rng: a faster generator whose numbers differ between kinds of devices.
      summarize_config_fn: called as (model_dir, summary_writer, step) before the first step.
      inference_evaluator_cls: `seqio.Evaluator`, with what gin binds of it; None is that without bindings.
      get_dataset_fn: gives the training stream of a `DatasetConfig`, this process's part.
      concurrent_metrics: taken for T5X's sake; metrics are fetched one step late, and actions see them all the same.
      actions: the name of an `ActionMode` ('TRAIN', 'TRAIN_EVAL', 'INFER_EVAL') -> actions that may stop the run; the
        step at which they do is saved and evaluated like a last one. Those of TRAIN run every `stats_period` steps.
      train_eval_get_dataset_fn: gives the tasks of teacher-forced evaluation.
      run_eval_before_training: whether to evaluate the state that training begins with.
      train_state_initializer_cls: makes the first state.
      use_orbax: taken for T5X's sake; checkpoints are Orbax's.
      verify_matching_vocabs_fn: checks a `DatasetConfig` against the model; None leaves that out.
      gc_period: steps between runs of Python's garbage collector; 0 leaves it to Python.
      log_examples: whether examples.jsonl gets the ids of each step's examples. T5X has no such argument.
      describe_fn: called as (model_dir, model, train_dataset_cfg, content, begin_with) by the first host before the first step, to
        note what the model is; content is that of run.json, begin_with the checkpoint to begin with or None. T5X has no such
        argument.

    Returns:
      (step, state) after the last step.

    Raises:
      ValueError: for settings that do not fit together, before anything is compiled; if the step does not fit into memory in any
        way that is left open (`step.fitting`).
      FloatingPointError: if a loss is not finite; it names the metric and the step.
      FolderInUse: if another run is at work in `model_dir`.
      OSError: if a checkpoint cannot be written, at the next step after it went wrong.
      Preempted: after SIGTERM, SIGUSR1 or Ctrl-C, once the step in hand is saved (`preemption`).
    """
    from stepdistill_jax.engine.data import contents
    from stepdistill_jax.engine.evaluate.evaluation import RunEvaluation
    from stepdistill_jax.engine.loop import run_folder
    from stepdistill_jax.engine.loop.run_recorder import RunRecorder
    from stepdistill_jax.engine.loop.training_loop import Training

    if not use_orbax:
        say_once(
            "train.use_orbax=False has no effect: checkpoints are written in Orbax's layout, and read in both."
        )
    if use_hardware_rng:
        jax.config.update("jax_default_prng_impl", "rbg")
    # From here on: data, first state and compilation may take minutes.
    with (
        preemption.watched() as notice,
        run_owner.owned(Path(model_dir)) as owner,
        ahead_of_time.compilation_thread() as thread,
    ):
        run = RunRecorder(
            Path(model_dir),
            checkpoint_cfg.save,
            eval_period=eval_period,
            stats_period=stats_period,
            log_examples=log_examples,
            skips_non_finite=bool(getattr(model.optimizer_def.hyper_params, "skip_nan_updates", False)),
        )
        restore = checkpoint_cfg.restore if run.resumes_at is None else None
        begin_with = finding.find_checkpoint(restore) if restore is not None else None
        verifies = checkpoint_cfg.verify and (restore is None or restore.verify)
        seed, position = run.seed_and_position(
            random_seed,
            begins_like=begin_with if restore is not None and restore.restore_dataset else None,
            verify=verifies,
        )
        verify = verify_matching_vocabs_fn or (lambda cfg, model: None)
        cfgs = (train_dataset_cfg, train_eval_dataset_cfg, infer_eval_dataset_cfg)
        for cfg in filter(None, cfgs):  # before anything is tokenised, which may take minutes
            verify(cfg, model)
        mixed_data = contents.check_together(train_dataset_cfg)
        earlier = run_folder.read_run_json(run.model_dir) if run.resumes_at is not None else {}
        if run.resumes_at is not None:
            mixed_data += contents.check_unchanged(
                (train_dataset_cfg, infer_eval_dataset_cfg), run.model_dir, earlier
            )
        progress.announce("reading the data …")
        stream = _open_stream(get_dataset_fn, model, train_dataset_cfg, partitioner, seed)
        spec = stream.batch_spec()
        initializer = train_state_initializer_cls(
            optimizer_def=model.optimizer_def,
            init_fn=model.get_initial_variables,
            input_shapes={name: tuple(rows.shape) for name, rows in spec.items()},
            input_types={name: rows.dtype.as_numpy_dtype for name, rows in spec.items()},
            partitioner=partitioner,
        )
        axes = initializer.train_state_axes
        partitioner.check_divides(initializer.global_train_state_shape, getattr(model.module, "config", None))
        init_rng, dropout_rng = jax.random.split(jax.random.key(seed))
        trainer = trainer_cls(model=model, train_state_axes=axes, partitioner=partitioner, rng=dropout_rng)
        fitting.check_microbatches(
            train_dataset_cfg.batch_size, trainer.num_microbatches, partitioner.data_mesh_size
        )
        if fitting.leaves_open(trainer, model, partitioner):
            progress.announce("finding out how the step fits into memory …")
            trainer = fitting.resolve(
                trainer,
                initializer.global_train_state_shape,
                {
                    name: jax.ShapeDtypeStruct(rows.shape, rows.dtype.as_numpy_dtype)
                    for name, rows in spec.items()
                },
                model=model,
                partitioner=partitioner,
                memory=step_memory.attached(partitioner.mesh),
                folder=run.model_dir,
                began_with=earlier.get("step_plan"),
            )
        attention = _attention(model, partitioner)
        run_actions = RunActions(actions, train_period=run.stats_period)
        evaluation = RunEvaluation(
            model, trainer, partitioner, axes, train_eval_dataset_cfg, infer_eval_dataset_cfg, inference_evaluator_cls,
            eval_steps=eval_steps, log_dir=run.model_dir, get_streams=train_eval_get_dataset_fn, verify=verify,
        )  # fmt: skip
        training = Training(
            run, owner, trainer, evaluation, run_actions, partitioner, stream, seed, gc_period
        )

        # Of several lengths none is known to come first.
        if thread is not None and train_dataset_cfg.length_buckets <= 1:
            ahead_of_time.compile_ahead(
                thread, trainer, partitioner, state=initializer.global_train_state_shape, batch_spec=spec,
                eval_batch_specs=evaluation.batch_specs(),
            )  # fmt: skip
        progress.announce("making the first state …")
        state = _first_state(run, begin_with, restore, initializer, partitioner, init_rng, verify=verifies)
        evaluate_first = run_eval_before_training and run.resumes_at is None
        if begin_with is not None:
            end = int(state.step) + relative_steps if relative_steps is not None else total_steps
            _check_steps_are_left(begin_with, int(state.step), end, evaluates=evaluate_first)
        facts = {
            "seed": seed,
            "num_parameters": num_parameters(initializer.global_train_state_shape),
            **_stream_settings(train_dataset_cfg),
            "data": stream.contents(),
        }
        content = contents.contents_of((train_dataset_cfg, infer_eval_dataset_cfg), whole_dataset=True)
        first_step = run.begin(
            step=int(state.step),
            facts=facts,
            noted={
                "text_fit": stream.text_fit(),
                "content": content,
                "attention": attention,
                "step_plan": fitting.plan_of(trainer),
            },
            mixed_data=mixed_data,
            summarize_config_fn=summarize_config_fn,
        )
        last_step = first_step + relative_steps if relative_steps is not None else total_steps

        preempted = False
        try:
            if describe_fn is not None and jax.process_index() == 0:
                describe_fn(run.model_dir, model, train_dataset_cfg, content, begin_with)
            if not (evaluate_first and training.evaluate(state)):
                state, preempted = training.take_steps(state, position, last_step, notice)
        finally:
            run.close()
            evaluation.close()
        if preempted:
            run.end_preempted(int(state.step), notice.exit_status)
        return int(state.step), state


def _first_state(
    run: RunRecorder,
    begin_with: os.PathLike[str] | None,
    cfg: RestoreCheckpointConfig | None,
    initializer: TrainStateInitializer,
    partitioner: PjitPartitioner,
    init_rng: jax.Array,
    *,
    verify: bool,
) -> FlaxOptimTrainState:
    """The run's own newest state; else that of the checkpoint that it begins with; else a random one."""
    abstract_state = initializer.global_train_state_shape
    if run.resumes_at is not None:
        return restore_checkpoint(run.checkpoint_path, abstract_state, partitioner, verify=verify)
    if begin_with is None:
        return initializer.from_scratch(init_rng)
    from_scratch = functools.partial(initializer.first_values, init_rng)
    return restore_checkpoint(
        begin_with, abstract_state, partitioner, cfg=cfg, from_scratch=from_scratch, verify=verify
    )


def _attention(model: base_model.BaseTransformerModel, partitioner: PjitPartitioner) -> str | None:
    """What computes attention, in a line; said where it is not as it always was."""
    config = getattr(model.module, "config", None)
    platform = partitioner.mesh.devices.flat[0].platform
    is_prefix_lm = getattr(model, "inputs_bidirectional_attention", False)
    by_segments = not is_prefix_lm and getattr(config, "sliding_window", None) is None
    line = choice.describe(config, platform, by_segments=by_segments)
    if line and platform != "cpu" and jax.process_index() == 0:
        say_once(line)
    return line and line.removeprefix("attention: ")


def _check_steps_are_left(
    begin_with: os.PathLike[str], step: int, last_step: int, *, evaluates: bool
) -> None:
    if step < last_step or (evaluates and step == last_step):
        return
    raise ValueError(
        f"total_steps={last_step}, but {begin_with} is at step {step}: nothing would be trained; set relative_steps, or a "
        "larger total_steps."
    )


def _stream_settings(cfg: DatasetConfig) -> dict[str, Any]:
    """What the stream's position means nothing without: it must not change when a run goes on."""
    return {
        "mixture_or_task_name": cfg.mixture_or_task_name,
        "split": cfg.split,
        "batch_size": cfg.batch_size,
        "pack": cfg.pack,
        "length_buckets": cfg.length_buckets,
        "paired": cfg.paired,
        "task_feature_lengths": dict(cfg.task_feature_lengths),
        "sources": source_facts(cfg),
    }


def _open_stream(
    get_dataset_fn: Callable[..., TrainStream],
    model: base_model.BaseTransformerModel,
    cfg: DatasetConfig,
    partitioner: PjitPartitioner,
    seed: int,
) -> TrainStream | TfDataStream:
    import tensorflow as tf

    from stepdistill_jax.engine.data.tf_data_stream import TfDataStream
    from stepdistill_jax.engine.data.train_stream import TrainStream

    layout = partitioner.get_data_layout(cfg.batch_size)
    cfg = cfg if cfg.seed is not None else dataclasses.replace(cfg, seed=seed)
    stream = get_dataset_fn(cfg, layout.shard_id, layout.num_shards, model.FEATURE_CONVERTER_CLS)
    if isinstance(stream, tf.data.Dataset):
        return TfDataStream(stream, batch_size=cfg.batch_size, num_shards=layout.num_shards)
    if not isinstance(stream, (TrainStream, TfDataStream)):
        raise ValueError(
            f"train.get_dataset_fn gave a {type(stream).__name__}; it must give what utils.get_dataset gives, or a "
            "tf.data.Dataset of rows: that is what a run can be resumed from exactly."
        )
    return stream
