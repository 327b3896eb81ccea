"""Where the folders that come with the package lie: gin/, experiments/ and tasks/."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]


def root() -> Path:
    """The folder that holds gin/, experiments/ and tasks/: the package itself where it is installed, else the clone's."""
    return _PACKAGE if (_PACKAGE / "gin").is_dir() else _PACKAGE.parent
