"""The training stream of data too large to index: a tf.data pipeline whose iterator is saved with every checkpoint.

    RUN/stream_state/checkpoint_<step>/process-00000-of-00001.{index,data-…}

A state is written before its checkpoint is, whole or not at all: a checkpoint that is there has one. It holds shuffle
buffers too, so it can be large, and it fits the number of processes that wrote it and no other.
"""

import os
import shutil
import tempfile
from pathlib import Path

import jax
import numpy as np
import tensorflow as tf

from stepdistill_jax.base import checkpoint_folders
from stepdistill_jax.engine.data.train_stream import Batch, TokenCounts

_STATES = "stream_state"
# Model features by which padding is counted; rows of inputs and targets together have the second alone.
_SIDES = {"inputs": "encoder_input_tokens", "targets": "decoder_target_tokens"}


class TfDataStream:
    """Batches of a tf.data pipeline; goes on exactly from a saved state, and from nowhere else.

    Attributes:
      batch_size: rows of the global batch.
    """

    def __init__(self, rows: tf.data.Dataset, *, batch_size: int, num_shards: int = 1) -> None:
        """Prepares the stream.

        Args:
          rows: a mapping from model features to [length] an element: this process's share of the data, in order.
          batch_size: rows of the global batch.
          num_shards: processes that read different rows.
        """
        self.batch_size = batch_size
        self._num_shards = num_shards
        self._spec = rows.element_spec
        self._dataset = rows.batch(batch_size // num_shards, drop_remainder=True).prefetch(2)

    def batch_spec(self) -> dict[str, tf.TensorSpec]:
        """Shape [batch_size, row] and type of every model feature of the global batch."""
        return {
            name: tf.TensorSpec([self.batch_size, *row.shape], row.dtype) for name, row in self._spec.items()
        }

    def contents(self) -> None:
        """Not known without reading all."""

    def text_fit(self) -> None:
        """Not known without reading all."""

    def first_draw(self, step: int) -> int:
        """The position of a step: here the number of batches before it."""
        return step

    def batches(
        self, first_draw: int = 0, *, model_dir: Path | None = None, step: int = 0
    ) -> "TfDataBatches":
        """The batches from a position on.

        Args:
          first_draw: batches that have been taken.
          model_dir: the run's folder, which has the state after them.
          step: of the checkpoint that the state was saved with.

        Raises:
          FileNotFoundError: if there is no such state.
          ValueError: if the pipeline's position cannot be saved.
        """
        iterator = iter(self._dataset)
        _check_saveable(iterator)
        if first_draw:
            if model_dir is None:
                raise FileNotFoundError(f"Batch {first_draw} of a tf.data stream needs a run's saved state.")
            _restore(iterator, model_dir / _STATES / checkpoint_folders.name_of(step))
        return TfDataBatches(iterator, first_draw, self._num_shards)


class TfDataBatches:
    """An iterator over batches that knows where it is, and saves that.

    Attributes:
      next_draw: the number of batches that have been taken.
      token_counts: of the last batch, this process's times the number of processes.
    """

    def __init__(self, iterator: tf.data.Iterator, taken: int, num_shards: int) -> None:
        self._iterator, self.next_draw, self._num_shards = iterator, taken, num_shards
        self.token_counts: TokenCounts = {}

    def __iter__(self) -> "TfDataBatches":
        return self

    def __next__(self) -> Batch:
        batch = {name: rows.numpy() for name, rows in next(self._iterator).items()}
        self.next_draw += 1
        self.token_counts = {
            side: tuple(
                int(count) * self._num_shards for count in (np.count_nonzero(batch[name]), batch[name].size)
            )
            for side, name in _SIDES.items()
            if name in batch
        }
        return batch

    def example_names(self) -> list[str]:
        """Nothing: a pipeline's rows do not say what they hold."""
        return []

    def save_state(self, model_dir: Path, step: int) -> None:
        """Writes the state that goes with the checkpoint of `step`, and drops those whose checkpoints are gone."""
        states = model_dir / _STATES
        folder = states / checkpoint_folders.name_of(step)
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=states, prefix=".writing-") as temporary:
            tf.train.Checkpoint(iterator=self._iterator).write(str(Path(temporary) / _name()))
            for path in sorted(Path(temporary).iterdir(), reverse=True):  # the index comes last
                with path.open("rb") as file:
                    os.fsync(file.fileno())
                path.replace(folder / path.name)
        if jax.process_index() == 0:
            _drop_old(states, model_dir)


def _name() -> str:
    return f"process-{jax.process_index():05d}-of-{jax.process_count():05d}"


def _check_saveable(iterator: tf.data.Iterator) -> None:
    with tempfile.TemporaryDirectory() as folder:
        try:
            tf.train.Checkpoint(iterator=iterator).write(str(Path(folder) / "state"))
        except (tf.errors.FailedPreconditionError, tf.errors.UnimplementedError) as error:
            raise ValueError(
                f"This data is too large to index, and its tf.data position cannot be saved ({error.message.splitlines()[0]}); "
                "raise DatasetConfig.max_indexed_examples, or read it without Python functions."
            ) from error


def _restore(iterator: tf.data.Iterator, folder: Path) -> None:
    path = folder / _name()
    if not path.with_name(f"{path.name}.index").exists():
        there = ", ".join(sorted(found.name for found in folder.glob("*.index"))) or "nothing"
        raise FileNotFoundError(
            f"No state of the tf.data stream at {path}; there is {there}. Go on with the number of processes that saved it."
        )
    tf.train.Checkpoint(iterator=iterator).read(str(path)).assert_consumed()


def _drop_old(states: Path, model_dir: Path) -> None:
    """Keeps the two newest, as the checkpoint before may still be on its way, and those that have a checkpoint."""
    for step in checkpoint_folders.steps_in(states)[:-2]:
        name = checkpoint_folders.name_of(step)
        if not (model_dir / name).exists():
            shutil.rmtree(states / name, ignore_errors=True)
