"""What a run by names begins with: a checkpoint, or random parameters where that is meant."""

import re
from pathlib import Path

from stepdistill_jax.base import checkpoint_folders
from stepdistill_jax.launching.named.students import SCRATCH, Student

# What `convert` writes beside a checkpoint.
_NETWORK_FILE = "model.gin"
_TOKENIZER_FILE = Path("huggingface") / "tokenizer.json"


def student_beside(begin: str | None) -> str | None:
    """The network file that lies beside a converted checkpoint, as --student takes it; None where there is none."""
    if begin is None or begin == SCRATCH or "://" in begin:
        return None
    folder = Path(begin)
    beside = (path / _NETWORK_FILE for path in (folder, folder.parent))
    return next((str(path) for path in beside if path.is_file()), None)


def tokenizer_beside(checkpoint: str | None) -> str | None:
    """The tokenizer that lies beside a converted checkpoint; None where there is none."""
    if checkpoint is None or "://" in checkpoint:
        return None
    file = Path(checkpoint).parent / _TOKENIZER_FILE
    return str(file) if file.is_file() else None


def is_of_a_run(checkpoint: str) -> bool:
    """Whether a checkpoint lies in the folder of a run that we trained, not in one of a converted model."""
    return "://" not in checkpoint and (Path(checkpoint).absolute().parent / "run.json").is_file()


def checkpoint_of(begin: str | None, student: Student) -> str | None:
    """The checkpoint that --from names, of a folder of several the newest; None for random parameters.

    Raises:
      ValueError: if it is none, or a published student has neither a checkpoint nor 'scratch'.
    """
    if begin is None and student.is_published:
        raise ValueError(
            f"{student.name} is a pretrained student: give --from CHECKPOINT (stepdistill convert FOLDER checkpoints/{student.name} "
            f"makes one), or --from {SCRATCH} for random parameters, which learn little from little data."
        )
    if begin is None or begin == SCRATCH:
        return None
    if "://" in begin:
        return begin
    folder = Path(begin)
    if not folder.is_dir():
        raise ValueError(f"--from {begin}: there is no such folder; name a checkpoint, or '{SCRATCH}'.")
    if steps := checkpoint_folders.steps_in(folder):
        return str(folder / checkpoint_folders.name_of(steps[-1]))
    if (folder / "config.json").is_file():
        raise ValueError(
            f"--from {begin} is a Hugging Face folder; turn it into a checkpoint: stepdistill convert {begin} "
            f"checkpoints/{student.name}"
        )
    if not checkpoint_folders.steps_of([folder.absolute().name]):
        raise ValueError(f"--from {begin} holds no checkpoint_<step>; name another folder, or '{SCRATCH}'.")
    return begin


def step_of(checkpoint: str | None) -> int:
    """The step in a checkpoint's name, from which the warm-up counts; 0 where there is none."""
    match = re.search(r"checkpoint_(\d+)/?$", checkpoint or "")
    return int(match[1]) if match else 0
