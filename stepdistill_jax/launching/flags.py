"""The flags of T5X's scripts, of python t5x/SCRIPT.py and of the subcommand of the same name."""

import argparse

from stepdistill_jax.engine.config import gin_flags


def add_script_flags(parser: argparse.ArgumentParser, script: str) -> None:
    """Adds what every script takes, and what train, eval, infer or precompile takes alone."""
    gin_flags.add_flags(parser)
    if script == "precompile":
        parser.add_argument(
            "--topology",
            metavar="NAME",
            help="hardware that need not be there: v4:2x2x4 (a TPU slice in chips), a100x16, a100-40x16, h100x8, cpu:16; "
            "default the devices here",
        )
    if script == "infer":
        parser.add_argument(
            "--shard_id", type=int, metavar="N", help="this job's part, in place of infer.shard_id"
        )
