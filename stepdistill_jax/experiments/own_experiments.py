"""The experiment files that come with the package: the folder experiments/ of a clone."""

import tomllib
from pathlib import Path

from stepdistill_jax.base import own_files
from stepdistill_jax.base.messages import nearest


def find_file(path: Path) -> Path:
    """The file of that path, else of that path below the folder that holds our experiments/, as gin files are looked for.

    Raises:
      FileNotFoundError: names the nearest of ours.
    """
    for candidate in (path, own_files.root() / path):
        if candidate.is_file():
            return candidate
    raise FileNotFoundError(f"No experiment file {path}{nearest(path.as_posix(), _files())}.")


def titles() -> dict[str, str]:
    """'experiments/small/table2.toml' and so on -> what it says it is."""
    root = own_files.root()
    return {file: tomllib.loads((root / file).read_text(encoding="utf-8"))["title"] for file in _files()}


def _files() -> list[str]:
    root = own_files.root()
    return sorted(path.relative_to(root).as_posix() for path in (root / "experiments").glob("*/*.toml"))
