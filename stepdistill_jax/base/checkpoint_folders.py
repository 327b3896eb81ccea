"""A run's checkpoints by the names of their folders, `checkpoint_<step>`: T5X's way, and ours."""

import os
import re
from collections.abc import Iterable
from pathlib import Path


def name_of(step: int) -> str:
    """'checkpoint_1000'."""
    return f"checkpoint_{step}"


def steps_of(names: Iterable[str]) -> list[int]:
    """The steps of the names that are a checkpoint's, in ascending order; one that is half written has a longer name."""
    return sorted(int(match[1]) for name in names if (match := re.fullmatch(r"checkpoint_(\d+)", name)))


def steps_in(folder: str | os.PathLike[str]) -> list[int]:
    """The steps of the checkpoints in a local folder, in ascending order; none if there is no such folder."""
    return steps_of(path.name for path in Path(folder).glob("checkpoint_*") if path.is_dir())
