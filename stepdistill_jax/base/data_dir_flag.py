"""The flag --data_dir, which several subcommands have."""

import argparse
from pathlib import Path


def add_data_dir_flag(parser: argparse.ArgumentParser) -> None:
    """Adds --data_dir: the folder of prepared data; None without it."""
    parser.add_argument("--data_dir", type=Path, metavar="DIR", help="prepared data (default ./data)")
