"""The flags that eval and infer share: which run, and what of it."""

import argparse
from pathlib import Path
from typing import Any

from stepdistill_jax.base.data_dir_flag import add_data_dir_flag
from stepdistill_jax.base.no_verify_flag import add_no_verify_flag


def add_run_flags(parser: argparse.ArgumentParser) -> None:
    """Adds RUN, --split, --step, --task, --gin_bindings, --no_verify and --data_dir."""
    parser.add_argument("run", type=Path, metavar="RUN", help="a run's folder (MODEL_DIR)")
    parser.add_argument("--split", default="test", help="train, validation or test (default test)")
    parser.add_argument(
        "--step", type=int, help="checkpoint to use (default the best that the run keeps, else the newest)"
    )
    parser.add_argument("--task", metavar="NAME", help="task or mixture (default the run's)")
    parser.add_argument(
        "--gin_bindings",
        action="append",
        default=[],
        metavar="'NAME = VALUE'",
        help="change a setting; also --gin.NAME=VALUE",
    )
    add_no_verify_flag(parser)
    add_data_dir_flag(parser)


def run_choices(args: argparse.Namespace) -> dict[str, Any]:
    """These flags but RUN, as arguments of `runs.evaluate` and `runs.infer`."""
    choices = {name: getattr(args, name) for name in ("split", "step", "task", "data_dir", "gin_bindings")}
    return {**choices, "verify": not args.no_verify}
