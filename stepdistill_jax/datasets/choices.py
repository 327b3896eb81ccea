"""What a run may choose about the tasks it reads, in gin or by the environment."""

import os

import gin


@gin.configurable
def task_choices(prefixes: str | None = None, teacher: str | None = None) -> tuple[str, str | None]:
    """(style of the prefixes, name of the teacher or None), as gin binds them, else as the environment does.

    In a gin file: `from stepdistill_jax import datasets`, then `datasets.task_choices.prefixes = 'code'`.

    Args:
      prefixes: 'paper' or 'code'; default $STEPDISTILL_PREFIXES, else 'paper'.
      teacher: whose rationales are read; default $STEPDISTILL_TEACHER, else the dataset's own.
    """
    return (
        prefixes or os.environ.get("STEPDISTILL_PREFIXES") or "paper",
        teacher or os.environ.get("STEPDISTILL_TEACHER"),
    )
