"""A model with its parameters from a checkpoint, ready to decode; no optimizer state is read."""

import dataclasses
from pathlib import Path

import jax
import numpy as np

from stepdistill_jax.engine import checkpoints, models
from stepdistill_jax.engine.initialize import abstract_train_state
from stepdistill_jax.engine.partitioning import PjitPartitioner
from stepdistill_jax.engine.train_state import FlaxOptimTrainState


@dataclasses.dataclass(frozen=True)
class RestoredModel:
    """Attributes:
    path: the checkpoint's folder.
    state: parameters and step; the optimizer's state is abstract.
    axes: a PartitionSpec for every array of the state.
    """

    path: Path
    state: FlaxOptimTrainState
    axes: FlaxOptimTrainState


def restore_model(
    model: models.BaseModel,
    cfg: checkpoints.RestoreCheckpointConfig,
    partitioner: PjitPartitioner,
) -> RestoredModel:
    """Reads a checkpoint's parameters.

    Raises:
      FileNotFoundError: if there is no such checkpoint.
      ValueError: if its parameters are not the model's.
    """
    path = checkpoints.find_checkpoint(cfg)
    # Parameters do not depend on the lengths of a batch: any shape serves to name them.
    features = model.FEATURE_CONVERTER_CLS.MODEL_FEATURES
    shapes = {name: (partitioner.data_mesh_size, 1) for name in features}
    abstract = abstract_train_state(model, shapes, {name: np.int32 for name in features})
    state = checkpoints.restore_checkpoint(path, abstract, partitioner, params_only=True, dtype=cfg.dtype)
    jax.block_until_ready(state.params)
    return RestoredModel(path=path, state=state, axes=partitioner.get_mesh_axes(abstract))
