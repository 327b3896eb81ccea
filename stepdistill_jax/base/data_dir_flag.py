"""The flag --data_dir, which several subcommands have."""

import argparse
import shlex
from pathlib import Path


def add_data_dir_flag(parser: argparse.ArgumentParser) -> None:
    """Adds --data_dir: the folder of prepared data; None without it."""
    parser.add_argument("--data_dir", type=Path, metavar="DIR", help="prepared data (default ./data)")


def as_typed(data_dir: Path | None) -> str:
    """' --data_dir DIR' as a shell reads it, to be put behind a command that is advised; '' without the flag."""
    return "" if data_dir is None else f" --data_dir {shlex.quote(str(data_dir))}"
