"""`stepdistill precompile`: its flags, T5X's and the runs that it takes in their place, and its call."""

import argparse
from pathlib import Path

from stepdistill_jax.launching.flags import add_script_flags

EXAMPLES = """\
  stepdistill precompile gin/dsbs_t5_xxl.gin gin/meshes/fsdp_4.gin --topology v4:2x2x4
  stepdistill precompile runs/tiny --topology cpu:8 --gin.NUM_PARTITIONS=2
  stepdistill precompile --gin_file=gin/dsbs_t5_base.gin --topology h100x8        # as t5x/precompile.py"""
LIST = "runs"


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "runs",
        nargs="*",
        metavar="RUN_OR_GIN",
        help="a run's folder (MODEL_DIR), or a gin file as of --gin_file, before which it is read",
    )
    add_script_flags(parser, "precompile")


def run(args: argparse.Namespace) -> None:
    from stepdistill_jax.launching import launch

    args.gin_file = [*map(_gin_file, args.runs), *args.gin_file]
    launch.run_script("precompile", args)


def _gin_file(run_or_gin: str) -> str:
    """The gin file that a run's folder holds; anything else is one."""
    folder = Path(run_or_gin)
    if not folder.is_dir():
        return run_or_gin
    if not (folder / "config.gin").is_file():
        raise FileNotFoundError(
            f"{folder} is not a run's folder: it has no config.gin. Name another, or a gin file."
        )
    return str(folder.absolute() / "config.gin")
