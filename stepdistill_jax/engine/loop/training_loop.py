"""The training loop: next batch, step, log, evaluate, save."""

import contextlib
import dataclasses
import gc
from collections.abc import Callable, Iterator

from stepdistill_jax.base.folder_lock import FolderLock
from stepdistill_jax.engine.checkpoint.run_checkpoints import StreamPosition
from stepdistill_jax.engine.cluster.preemption import PreemptionNotice
from stepdistill_jax.engine.data.tf_data_stream import TfDataStream
from stepdistill_jax.engine.data.train_stream import TrainStream
from stepdistill_jax.engine.evaluate.evaluation import RunEvaluation
from stepdistill_jax.engine.loop.actions import ActionMode, RunActions
from stepdistill_jax.engine.loop.run_recorder import RunRecorder
from stepdistill_jax.engine.optim.train_state import FlaxOptimTrainState
from stepdistill_jax.engine.partition.partitioning import PjitPartitioner
from stepdistill_jax.engine.step.trainer import Trainer


@dataclasses.dataclass(frozen=True)
class Training:
    """What a run's steps are taken with; all of it set up and checked.

    Attributes:
      run: writes logs and checkpoints, and knows when what is due.
      owner: the lock of the run's folder.
      actions: may stop the run.
      seed: of the stream, saved with its position.
      gc_period: steps between runs of Python's garbage collector; 0 leaves it to Python.
    """

    run: RunRecorder
    owner: FolderLock
    trainer: Trainer
    evaluation: RunEvaluation
    actions: RunActions
    partitioner: PjitPartitioner
    stream: TrainStream | TfDataStream
    seed: int
    gc_period: int

    def take_steps(
        self, state: FlaxOptimTrainState, first_draw: int, last_step: int, notice: PreemptionNotice
    ) -> tuple[FlaxOptimTrainState, bool]:
        """The steps from the state's on to `last_step`, or to one at which an action stops the run or a notice comes.

        Args:
          state: its memory is reused.
          first_draw: where the stream goes on.

        Returns:
          (state after the last step, whether a notice cut the run short).
        """
        run, step = self.run, int(state.step)
        batches = self.stream.batches(first_draw, model_dir=run.model_dir, step=step)
        run.start_progress(step, last_step)
        notice.begin_steps(saves=run.saves)
        preempted = notice.reached(step)
        with _garbage_collection(self.gc_period) as collect_garbage:
            while step < last_step and not preempted:
                batch = next(batches)
                state, metrics, learning_rate = self.trainer.train_step(
                    state, self.partitioner.global_batch(batch)
                )
                step += 1
                self.owner.check()
                run.log_step(step, metrics, learning_rate, batches)
                run.check_saves()
                if self.actions.after_step(step, state, metrics):
                    last_step = step
                preempted = notice.reached(step)
                evaluate, save = run.due(step, last_step, preempted=preempted)
                if evaluate or save:
                    run.pause()
                    if evaluate and self.evaluate(state):
                        last_step, save = step, save or run.saves
                    if save:
                        batches.save_state(run.model_dir, step)
                        run.save(step, state, StreamPosition(seed=self.seed, next_draw=batches.next_draw))
                    run.resume()
                collect_garbage(step)
        return state, preempted and step < last_step

    def evaluate(self, state: FlaxOptimTrainState) -> bool:
        """Evaluates and logs; True if an action wants the run to stop."""
        stop = False
        for mode, rows in (
            (ActionMode.TRAIN_EVAL, self.evaluation.teacher_forced),
            (ActionMode.INFER_EVAL, self.evaluation.decoded),
        ):
            rows_of_mode = rows(state)
            self.run.log_evaluation(rows_of_mode, decoded=mode is ActionMode.INFER_EVAL)
            if rows_of_mode:
                stop |= self.actions.run(mode, state, {row["task"]: row for row in rows_of_mode})
        return stop


@contextlib.contextmanager
def _garbage_collection(period: int) -> Iterator[Callable[[int], None]]:
    """Within it garbage is collected at the steps of the period that call for it, or by Python where there is none."""
    if not period:
        yield lambda step: None
        return
    gc.disable()
    try:
        yield lambda step: gc.collect() if step % period == 0 else None
    finally:
        gc.enable()
