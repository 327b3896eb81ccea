"""A model with its parameters from a checkpoint, ready to decode; no optimizer state is read."""

import dataclasses
import functools
from collections.abc import Callable, Iterator

import jax
import numpy as np
from etils import epath

from stepdistill_jax.engine.checkpoint import finding
from stepdistill_jax.engine.checkpoint.checkpoint_config import RestoreCheckpointConfig
from stepdistill_jax.engine.checkpoint.state_restoring import restore_checkpoint
from stepdistill_jax.engine.model import base_model
from stepdistill_jax.engine.optim.train_state import FlaxOptimTrainState
from stepdistill_jax.engine.partition.partitioning import PjitPartitioner
from stepdistill_jax.engine.step.initialize import TrainStateInitializer


@dataclasses.dataclass(frozen=True)
class RestoredModel:
    """Attributes:
    path: the checkpoint's folder.
    state: parameters and step; the optimizer's state is abstract.
    axes: a PartitionSpec for every array of the state.
    """

    path: epath.Path
    state: FlaxOptimTrainState
    axes: FlaxOptimTrainState


def restore_model(
    model: base_model.BaseModel,
    cfg: RestoreCheckpointConfig,
    partitioner: PjitPartitioner,
    *,
    init_seed: int | None = None,
    initializer_cls: Callable[..., TrainStateInitializer] = TrainStateInitializer,
) -> RestoredModel:
    """Reads the parameters of the one checkpoint that `cfg` names.

    Args:
      init_seed: of the parameters that the checkpoint lacks, where `cfg.fallback_to_scratch` allows that.
      initializer_cls: gives the parameters' names and shapes.

    Raises:
      FileNotFoundError: if there is no such checkpoint.
      ValueError: if its parameters are not the model's, or `cfg` names several checkpoints.
    """
    path = finding.find_checkpoint(cfg)
    if path is None:
        raise ValueError(f"RestoreCheckpointConfig.path={cfg.path!r}; name a checkpoint.")
    return _restored(model, path, cfg, partitioner, init_seed, initializer_cls)


def restore_models(
    model: base_model.BaseModel,
    cfg: RestoreCheckpointConfig,
    partitioner: PjitPartitioner,
    *,
    init_seed: int | None = None,
    initializer_cls: Callable[..., TrainStateInitializer] = TrainStateInitializer,
) -> Iterator[RestoredModel]:
    """The parameters of every checkpoint that `cfg` names, one after another: mode 'all', or several paths.

    Raises:
      FileNotFoundError: if there is no such checkpoint.
      ValueError: if the parameters of one are not the model's.
    """
    for path in finding.find_checkpoints(cfg):
        yield _restored(model, path, cfg, partitioner, init_seed, initializer_cls)


def _restored(
    model: base_model.BaseModel,
    path: epath.Path,
    cfg: RestoreCheckpointConfig,
    partitioner: PjitPartitioner,
    init_seed: int | None,
    initializer_cls: Callable[..., TrainStateInitializer],
) -> RestoredModel:
    # Parameters do not depend on the lengths of a batch: any shape serves to name them.
    features = base_model.feature_names(model)
    initializer = initializer_cls(
        optimizer_def=model.optimizer_def,
        init_fn=model.get_initial_variables,
        input_shapes={name: (partitioner.data_mesh_size, 1) for name in features},
        input_types={name: np.int32 for name in features},
        partitioner=partitioner,
    )
    state = restore_checkpoint(
        path,
        initializer.global_train_state_shape,
        partitioner,
        cfg=cfg,
        from_scratch=functools.partial(initializer.first_values, jax.random.key(init_seed or 0)),
        params_only=True,
        verify=cfg.verify,
    )
    jax.block_until_ready(state.params)
    return RestoredModel(path=path, state=state, axes=initializer.train_state_axes)
