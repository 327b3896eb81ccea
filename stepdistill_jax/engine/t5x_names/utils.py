"""T5X's name for what its gin files call `utils.…`; each thing lives in a module that says what it is."""

from stepdistill_jax.engine.data.dataset_config import DatasetConfig, get_dataset, get_training_eval_datasets
from stepdistill_jax.engine.data.task_vocabularies import (
    get_vocabulary,
    round_vocab_size_to_multiple,
    verify_matching_vocabs,
)
from stepdistill_jax.engine.evaluate.inference import get_infer_fn
from stepdistill_jax.engine.optim.schedules import create_learning_rate_scheduler
from stepdistill_jax.engine.step.initialize import TrainStateInitializer
from stepdistill_jax.engine.t5x_names.checkpoints import (
    CheckpointConfig,
    RestoreCheckpointConfig,
    SaveCheckpointConfig,
)

__all__ = [
    "CheckpointConfig",
    "DatasetConfig",
    "RestoreCheckpointConfig",
    "SaveCheckpointConfig",
    "TrainStateInitializer",
    "create_learning_rate_scheduler",
    "get_dataset",
    "get_infer_fn",
    "get_training_eval_datasets",
    "get_vocabulary",
    "round_vocab_size_to_multiple",
    "verify_matching_vocabs",
]
