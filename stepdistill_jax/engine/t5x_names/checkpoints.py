"""T5X's name for what its gin files and scripts call `checkpoints.…`; each thing lives in a module that says what it is."""

from stepdistill_jax.engine.checkpoint.checkpoint_config import (
    CheckpointConfig,
    Checkpointer,
    OrbaxCheckpointManagerInterface,
    RestoreCheckpointConfig,
    SaveBestCheckpointer,
    SaveCheckpointConfig,
)
from stepdistill_jax.engine.checkpoint.finding import (
    all_steps,
    find_checkpoint,
    find_checkpoints,
    get_checkpoint_dir,
    latest_step,
    load_t5x_checkpoint,
)
from stepdistill_jax.engine.checkpoint.run_checkpoints import (
    RunCheckpoints,
    StreamPosition,
    read_stream_position,
)
from stepdistill_jax.engine.checkpoint.state_restoring import restore_checkpoint

__all__ = [
    "CheckpointConfig",
    "Checkpointer",
    "OrbaxCheckpointManagerInterface",
    "RestoreCheckpointConfig",
    "RunCheckpoints",
    "SaveBestCheckpointer",
    "SaveCheckpointConfig",
    "StreamPosition",
    "all_steps",
    "find_checkpoint",
    "find_checkpoints",
    "get_checkpoint_dir",
    "latest_step",
    "load_t5x_checkpoint",
    "read_stream_position",
    "restore_checkpoint",
]
