"""The training loop: restore, next batch, step, log, evaluate, save."""

import dataclasses
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import seqio
from clu import metric_writers
from jax.experimental import multihost_utils

from stepdistill_jax.engine import checkpoints as checkpoints_lib
from stepdistill_jax.engine import models, run_folder
from stepdistill_jax.engine.dataset_config import (
    DatasetConfig,
    get_dataset,
    get_training_eval_datasets,
    verify_matching_vocabs,
)
from stepdistill_jax.engine.evaluation import InferenceEvaluator, teacher_forced_losses
from stepdistill_jax.engine.gin_utils import summarize_gin_config
from stepdistill_jax.engine.initialize import abstract_train_state, initial_train_state, num_parameters
from stepdistill_jax.engine.partitioning import PjitPartitioner
from stepdistill_jax.engine.progress import Progress
from stepdistill_jax.engine.train_state import FlaxOptimTrainState
from stepdistill_jax.engine.train_stream import TrainStream, padding_fraction
from stepdistill_jax.engine.trainer import Trainer, check_microbatches, metric_values


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
    run = _Run(Path(model_dir), checkpoint_cfg.save, eval_period=eval_period, stats_period=stats_period)
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
    evaluation = _Evaluation(
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
    run: "_Run",
    trainer: Trainer,
    evaluation: "_Evaluation",
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


class _Evaluation:
    """Both kinds of evaluation of a run, prepared before the first step so that bad settings show at once."""

    def __init__(
        self,
        model: models.BaseTransformerModel,
        trainer: Trainer,
        partitioner: PjitPartitioner,
        axes: FlaxOptimTrainState,
        train_eval_cfg: DatasetConfig | None,
        infer_eval_cfg: DatasetConfig | None,
        inference_evaluator_cls: Callable[..., seqio.Evaluator],
        *,
        eval_steps: int | None,
        log_dir: Path,
    ) -> None:
        self._trainer, self._partitioner, self._axes, self._eval_steps = (
            trainer,
            partitioner,
            axes,
            eval_steps,
        )
        self._split = train_eval_cfg.split if train_eval_cfg else None
        self._streams: dict[str, TrainStream] = {}
        if train_eval_cfg is not None:
            layout = partitioner.get_data_layout(train_eval_cfg.batch_size)
            verify_matching_vocabs(train_eval_cfg, model)
            self._streams = get_training_eval_datasets(
                train_eval_cfg, layout.shard_id, layout.num_shards, model.FEATURE_CONVERTER_CLS
            )
        self._inference = (
            InferenceEvaluator(infer_eval_cfg, inference_evaluator_cls, model, partitioner, log_dir)
            if infer_eval_cfg is not None
            else None
        )

    def run(self, state: FlaxOptimTrainState) -> list[dict[str, Any]]:
        """Rows of metrics, one a task and kind of evaluation."""
        rows = teacher_forced_losses(
            self._trainer,
            state,
            self._streams,
            self._partitioner,
            split=self._split,
            max_batches=self._eval_steps,
        )
        return rows + (self._inference.evaluate(state, self._axes) if self._inference else [])

    def close(self) -> None:
        if self._inference:
            self._inference.close()


@dataclasses.dataclass
class _PendingStep:
    """A step whose metrics are still being computed: they are fetched one step late, so that the device never waits."""

    step: int
    metrics: Any
    learning_rate: Any
    padding_fraction: float
    num_tokens: int


class _Run:
    """What a run writes: logs, checkpoints, progress. Only the first host writes logs."""

    def __init__(
        self,
        model_dir: Path,
        save_cfg: checkpoints_lib.SaveCheckpointConfig | None,
        *,
        eval_period: int,
        stats_period: int | None,
    ) -> None:
        if model_dir.exists() and not model_dir.is_dir():
            raise ValueError(f"model_dir='{model_dir}' is a file; name a folder.")
        self.model_dir = model_dir
        self._save_cfg = save_cfg
        self._eval_period = eval_period
        self._stats_period = stats_period or min(100, eval_period or 100)
        self._checkpoints = checkpoints_lib.RunCheckpoints(model_dir, save_cfg) if save_cfg else None
        self.resumes_at = self._checkpoints.latest_step() if self._checkpoints else None
        self._pending: _PendingStep | None = None
        self._writes = jax.process_index() == 0

    @property
    def checkpoint_path(self) -> Path:
        return self.model_dir.absolute() / f"checkpoint_{self.resumes_at}"

    def seed_and_position(self, random_seed: int | None) -> tuple[int, int]:
        """The run's seed and the stream's next draw: the saved ones if the run goes on."""
        if random_seed is not None and not 0 <= random_seed < 2**32:
            raise ValueError(f"random_seed={random_seed}; use 0 to {2**32 - 1}, or None to draw one.")
        if self.resumes_at is None:
            if random_seed is not None:
                return random_seed, 0
            return int(multihost_utils.broadcast_one_to_all(np.uint32(time.time()))), 0
        saved = self._checkpoints.restore_stream(self.resumes_at)
        if random_seed is not None and random_seed != saved.seed:
            raise ValueError(
                f"random_seed={random_seed}, but {self.checkpoint_path} was trained with {saved.seed}; use that seed, or "
                "another MODEL_DIR."
            )
        return saved.seed, saved.next_draw

    def begin(self, *, step: int, facts: dict[str, Any], summarize_config_fn: Callable[..., None]) -> int:
        """Opens the logs at `step`; returns the step that the run began with, before any interruption."""
        earlier = run_folder.read_run_json(self.model_dir)
        first_step = earlier.get("first_step", step) if self.resumes_at is not None else step
        if self.resumes_at is not None:
            run_folder.check_unchanged(self.model_dir, earlier, facts)
        if not self._writes:
            return first_step
        run_folder.write_run_json(
            self.model_dir,
            {**facts, "first_step": first_step},
            earlier=earlier if self.resumes_at is not None else {},
        )
        # A run that was stopped before its first checkpoint begins again, and so do its logs.
        kept = step if self.resumes_at is not None else -1
        self._metrics = run_folder.JsonLines(self.model_dir / "metrics.jsonl", keep_up_to_step=kept)
        self._timing = run_folder.JsonLines(self.model_dir / "timing.jsonl", keep_up_to_step=kept)
        self._train_writer = metric_writers.SummaryWriter(str(self.model_dir / "train"))
        self._eval_writer = metric_writers.SummaryWriter(str(self.model_dir / "training_eval"))
        summarize_config_fn(str(self.model_dir), self._train_writer, step)
        return first_step

    def start_progress(self, step: int, last_step: int) -> None:
        self._progress = Progress(first_step=step, total_steps=last_step, period=self._stats_period)
        if self.resumes_at is not None:
            self._progress.say(f"going on from {self.checkpoint_path}")

    def pause(self) -> None:
        """Waits for the pending step, so that its time counts, then stops the clock."""
        self._flush_pending()
        self._progress.pause()

    def resume(self) -> None:
        self._progress.resume()

    def log_step(self, step: int, metrics: Any, learning_rate: Any, batch: dict[str, np.ndarray]) -> None:
        """Takes a step's metrics, and writes those of the step before."""
        tokens = [batch[name] for name in ("encoder_input_tokens", "decoder_target_tokens")]
        earlier, self._pending = (
            self._pending,
            _PendingStep(
                step,
                metrics,
                learning_rate,
                padding_fraction(batch),
                sum(int(np.count_nonzero(t)) for t in tokens) * jax.process_count(),
            ),
        )
        if earlier is not None:
            self._write_step(earlier)
            # The first step's time is the compiler's.
            self._progress.resume()

    def _flush_pending(self) -> None:
        if self._pending is not None:
            self._write_step(self._pending)
            self._pending = None

    def _write_step(self, pending: _PendingStep) -> None:
        values = metric_values(pending.metrics)
        values["learning_rate"] = float(pending.learning_rate)
        for name, value in values.items():
            if value is not None and not math.isfinite(value):
                raise FloatingPointError(
                    f"{name}={value} at step {pending.step} in {self.model_dir}; lower the learning rate, or look at "
                    "the batch."
                )
        if not self._writes:
            return
        self._metrics.write(
            {"step": pending.step, "split": "train", **values, "padding_fraction": pending.padding_fraction}
        )
        self._progress.step(pending.step, values, num_tokens=pending.num_tokens)
        if pending.step % self._stats_period == 0:
            rates = self._progress.rates()
            self._timing.write({"step": pending.step, **rates})
            scalars = {name: value for name, value in values.items() if value is not None}
            self._train_writer.write_scalars(
                pending.step, {**scalars, "tokens_per_second": rates["tokens_per_second"]}
            )

    def log_evaluation(self, rows: list[dict[str, Any]]) -> None:
        if not self._writes:
            return
        for row in rows:
            self._metrics.write(row)
            scalars = {
                f"{row['split']}/{row['task']}/{name}": value
                for name, value in row.items()
                if isinstance(value, (int, float)) and name != "step"
            }
            self._eval_writer.write_scalars(row["step"], scalars)
            if "accuracy" in row and hasattr(self, "_progress"):
                self._progress.say(
                    f"step {row['step']}  {row['split']} {row['task']}: accuracy {row['accuracy']:.1f} % "
                    f"({row.get('num_correct')} of {row.get('num_examples')})"
                )

    def due(self, step: int, last_step: int) -> tuple[bool, bool]:
        """(evaluate now?, save now?) The last step does both."""
        period = self._save_cfg.period if self._save_cfg else None
        evaluate = step == last_step or bool(self._eval_period and step % self._eval_period == 0)
        save = self._save_cfg is not None and (step == last_step or bool(period and step % period == 0))
        return evaluate, save

    def save(self, step: int, state: FlaxOptimTrainState, position: checkpoints_lib.StreamPosition) -> None:
        """Saves once every metric up to the step is on the disk: a checkpoint vouches for the logs before it."""
        if self._writes:
            self._metrics.sync()
        self._checkpoints.save(step, state, position)

    def close(self) -> None:
        if self._checkpoints is not None:
            self._checkpoints.close()
        if hasattr(self, "_progress"):
            self._progress.close()
        if self._writes and hasattr(self, "_metrics"):
            for log in (self._metrics, self._timing):
                log.close()
            for writer in (self._train_writer, self._eval_writer):
                writer.flush()
