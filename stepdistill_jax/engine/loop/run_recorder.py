"""What a run writes while it trains: logs, TensorBoard, progress, checkpoints."""

import dataclasses
import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import jax
import numpy as np
from clu import metric_writers
from jax.experimental import multihost_utils

from stepdistill_jax.base import checkpoint_folders, whole_files
from stepdistill_jax.base.messages import say_once
from stepdistill_jax.engine.checkpoint.checkpoint_config import SaveCheckpointConfig
from stepdistill_jax.engine.checkpoint.run_checkpoints import (
    RunCheckpoints,
    StreamPosition,
    read_stream_position,
)
from stepdistill_jax.engine.cluster import preemption
from stepdistill_jax.engine.data.train_stream import StreamBatches, TokenCounts, padding_fractions
from stepdistill_jax.engine.loop import run_folder
from stepdistill_jax.engine.loop.progress import Progress
from stepdistill_jax.engine.model.metrics import metric_values
from stepdistill_jax.engine.optim.train_state import FlaxOptimTrainState


@dataclasses.dataclass
class _PendingStep:
    """A step whose metrics are still being computed: they are fetched one step late, so that the device never waits."""

    step: int
    metrics: Any
    learning_rate: Any
    token_counts: TokenCounts


class RunRecorder:
    """What a run writes: logs, checkpoints, progress. Only the first host writes logs."""

    def __init__(
        self,
        model_dir: Path,
        save_cfg: SaveCheckpointConfig | None,
        *,
        eval_period: int,
        stats_period: int | None,
        log_examples: bool = False,
        skips_non_finite: bool = False,
    ) -> None:
        self.model_dir = model_dir
        self._save_cfg, self._skips_non_finite = save_cfg, skips_non_finite
        self._eval_period = eval_period
        self.stats_period = stats_period or min(100, eval_period or 100)
        self._checkpoints = RunCheckpoints(model_dir, save_cfg) if save_cfg else None
        self.resumes_at = self._checkpoints.latest_step() if self._checkpoints else None
        self._pending: _PendingStep | None = None
        self._log_examples, self._examples = log_examples, None
        self._monitored: dict[str, float | None] = {}  # of one step, by the names that keep-best may ask for
        self._writes = jax.process_index() == 0

    @property
    def saves(self) -> bool:
        """Whether the run writes checkpoints."""
        return self._save_cfg is not None

    def _kept_by(self) -> dict[str, dict[str, str]]:
        """What the best checkpoint is told by, for whoever asks the run later."""
        rules = self._save_cfg.keeping_rules() if self._save_cfg else None
        if rules is None or rules.metric_name_to_monitor is None:
            return {}
        return {
            checkpoint_folders.BEST_BY: {"metric": rules.metric_name_to_monitor, "mode": rules.metric_mode}
        }

    @property
    def checkpoint_path(self) -> Path:
        return self.model_dir.absolute() / checkpoint_folders.name_of(self.resumes_at)

    def seed_and_position(
        self,
        random_seed: int | None,
        *,
        begins_like: os.PathLike[str] | None = None,
        verify: bool = True,
    ) -> tuple[int, int]:
        """The run's seed and the stream's next draw: the saved ones if the run goes on, or begins where another stood.

        Args:
          random_seed: as the user set it; None draws one.
          begins_like: a checkpoint of another run, whose stream is gone on with.
          verify: whether what is read of a checkpoint is compared with its checksums.
        """
        if random_seed is not None and not 0 <= random_seed < 2**32:
            raise ValueError(f"random_seed={random_seed}; use 0 to {2**32 - 1}, or None to draw one.")
        source = self.checkpoint_path if self.resumes_at is not None else begins_like
        if source is None:
            if random_seed is not None:
                return random_seed, 0
            return int(multihost_utils.broadcast_one_to_all(np.uint32(time.time()))), 0
        saved = read_stream_position(source, verify=verify)
        if random_seed is not None and random_seed != saved.seed:
            raise ValueError(
                f"random_seed={random_seed}, but {source} was trained with {saved.seed}; use that seed, or "
                "another MODEL_DIR."
            )
        return saved.seed, saved.next_draw

    def begin(
        self,
        *,
        step: int,
        facts: dict[str, Any],
        noted: dict[str, Any],
        mixed_data: list[str],
        summarize_config_fn: Callable[..., None],
    ) -> int:
        """Opens the logs at `step`; returns the step that the run began with, before any interruption.

        Args:
          facts: what must not change when the run goes on.
          noted: what is kept beside them; of 'content', the identities of its data (`contents`), what they were first.
          mixed_data: what of the data does not belong together, and is allowed.
        """
        earlier = run_folder.read_run_json(self.model_dir)
        first_step = earlier.get("first_step", step) if self.resumes_at is not None else step
        if self.resumes_at is not None:
            # Other data have other counts; whoever allows them has been told.
            compared = {name: value for name, value in facts.items() if not (mixed_data and name == "data")}
            run_folder.check_unchanged(self.model_dir, earlier, compared)
        if self._checkpoints is not None:
            self._checkpoints.open()
        if not self._writes:
            return first_step
        run_folder.write_run_json(
            self.model_dir,
            {**facts, **noted, **self._kept_by(), "first_step": first_step},
            start={"step": step, "mixed_data": mixed_data},
            earlier=earlier if self.resumes_at is not None else {},
        )
        # A run that was stopped before its first checkpoint begins again, and so do its logs.
        kept = step if self.resumes_at is not None else -1
        self._metrics = whole_files.JsonLines(self.model_dir / "metrics.jsonl", keep_up_to_step=kept)
        self._timing = whole_files.JsonLines(self.model_dir / "timing.jsonl", keep_up_to_step=kept)
        if self._log_examples:
            self._examples = whole_files.JsonLines(self.model_dir / "examples.jsonl", keep_up_to_step=kept)
        self._train_writer = metric_writers.SummaryWriter(str(self.model_dir / "train"))
        self._eval_writers: dict[str, metric_writers.SummaryWriter] = {}
        before = run_folder.read_config(self.model_dir) if self.resumes_at is not None else {}
        summarize_config_fn(str(self.model_dir), self._train_writer, step)
        run_folder.say_other_settings(self.model_dir, before)
        return first_step

    def start_progress(self, step: int, last_step: int) -> None:
        self._progress = Progress(first_step=step, total_steps=last_step, period=self.stats_period)
        if self.resumes_at is not None:
            self._progress.say(
                f"going on from {self.checkpoint_path}"
                if step < last_step
                else f"{self.checkpoint_path} is of the last step, {last_step:,}: this run is done, and nothing is trained"
            )

    def pause(self) -> None:
        """Waits for the pending step, so that its time counts, then stops the clock."""
        self._flush_pending()
        self._progress.pause()

    def resume(self) -> None:
        self._progress.resume()

    def log_step(self, step: int, metrics: Any, learning_rate: Any, batches: StreamBatches) -> None:
        """Takes a step's metrics, and writes those of the step before; `batches` has just given the step's batch."""
        if self._examples is not None:
            self._examples.write({"step": step, "examples": batches.example_names()})
        earlier, self._pending = (
            self._pending,
            _PendingStep(step, metrics, learning_rate, batches.token_counts),
        )
        if earlier is not None:
            self._write_step(earlier)
            if not self._progress.has_begun:
                # The first step's time is the compiler's; the second, under way, is waited for: what the clock then
                # counts is whole steps.
                self._flush_pending()
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
                message = f"{name}={value} at step {pending.step} in {self.model_dir}"
                if not self._skips_non_finite:
                    raise FloatingPointError(f"{message}; lower the learning rate, or look at the batch.")
                say_once(f"{message}: the optimizer leaves such updates out (skip_nan_updates).")
                values[name] = None
        self._monitored = {f"train/{name}": value for name, value in values.items()}
        if not self._writes:
            return
        self._metrics.write(
            {"step": pending.step, "split": "train", **values, **padding_fractions(pending.token_counts)}
        )
        num_tokens = sum(real for real, _ in pending.token_counts.values())
        self._progress.step(pending.step, values, num_tokens=num_tokens)
        if pending.step % self.stats_period == 0:
            rates = self._progress.rates()
            if rates:
                self._timing.write({"step": pending.step, **rates})
            scalars = {name: value for name, value in values.items() if value is not None}
            speed = {name: rate for name, rate in rates.items() if name == "tokens_per_second"}
            self._train_writer.write_scalars(pending.step, {**scalars, **speed})

    def log_evaluation(self, rows: list[dict[str, Any]], *, decoded: bool) -> None:
        """Takes an evaluation's rows, one a task; `decoded` says of which kind."""
        # T5X's names of these metrics, which are their places in TensorBoard's folders.
        of_task = "inference_eval/{}/eval/{}" if decoded else "training_eval/{}/{}"
        self._monitored |= {
            of_task.format(row["task"], name): value
            for row in rows
            for name, value in row.items()
            if isinstance(value, (int, float)) and name != "step"
        }
        if not self._writes:
            return
        for row in rows:
            self._metrics.write(row)
            scalars = {
                name: value
                for name, value in row.items()
                if isinstance(value, (int, float)) and name != "step"
            }
            self._eval_writer_of(row["task"]).write_scalars(row["step"], scalars)
            if "accuracy" in row and hasattr(self, "_progress"):
                self._progress.say(
                    f"step {row['step']}  {row['split']} {row['task']}: accuracy {row['accuracy']:.1f} % "
                    f"({row.get('num_correct')} of {row.get('num_examples')})"
                )

    def _eval_writer_of(self, task: str) -> metric_writers.SummaryWriter:
        """TensorBoard lays curves of one name over each other, if each is of a folder: T5X's, training_eval/<task>."""
        if task not in self._eval_writers:
            folder = self.model_dir / "training_eval" / task
            self._eval_writers[task] = metric_writers.SummaryWriter(str(folder))
        return self._eval_writers[task]

    def due(self, step: int, last_step: int, *, preempted: bool) -> tuple[bool, bool]:
        """(evaluate now?, save now?) The last step does both; one that the run is preempted at is saved."""
        evaluate = step == last_step or bool(self._eval_period and step % self._eval_period == 0)
        if self._save_cfg is None:
            return evaluate, False
        period, steps = self._save_cfg.period, self._save_cfg.checkpoint_steps or ()
        save = step == last_step or bool(period and step % period == 0) or step in steps
        return evaluate, save or preempted

    def save(self, step: int, state: FlaxOptimTrainState, position: StreamPosition) -> None:
        """Saves once every metric up to the step is on the disk: a checkpoint vouches for the logs before it."""
        if self._writes:
            for log in (self._metrics, *([self._examples] if self._examples else [])):
                log.sync()
        self._checkpoints.save(step, state, position, metrics=self._monitored)

    def check_saves(self) -> None:
        """Raises what went wrong in a save behind the run's back."""
        if self._checkpoints is not None:
            self._checkpoints.check()

    def end_preempted(self, step: int, status: int) -> NoReturn:
        """Ends a run that a notice came to, once it is closed, with the notice's exit status."""
        latest = self._checkpoints.latest_step() if self._checkpoints is not None else None
        what = "interrupted" if status == preemption.INTERRUPTED_STATUS else "preempted"
        if latest is None:
            preemption.end(f"{what} at step {step}; nothing was saved.", status)
        saved_in = self.model_dir / checkpoint_folders.name_of(latest)
        preemption.end(
            f"{what} at step {step}, saved in {saved_in}; the same command goes on from there.", status
        )

    def close(self) -> None:
        if self._checkpoints is not None:
            self._checkpoints.close()
        if hasattr(self, "_progress"):
            self._progress.close()
        if self._writes and hasattr(self, "_metrics"):
            for log in (self._metrics, self._timing, self._examples):
                if log is not None:
                    log.close()
            for writer in (self._train_writer, *self._eval_writers.values()):
                writer.flush()
