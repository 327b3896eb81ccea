"""`stepdistill eval`: its flags and its call."""

import argparse

from stepdistill_jax.launching.commands.run_flags import add_run_flags, run_choices

EXAMPLES = """\
  stepdistill eval runs/tiny
  stepdistill eval runs/tiny --split validation --step 500
  stepdistill eval runs/xxl --gin.NUM_PARTITIONS=4"""


def add_flags(parser: argparse.ArgumentParser) -> None:
    add_run_flags(parser)


def run(args: argparse.Namespace) -> None:
    from stepdistill_jax.launching import runs

    runs.evaluate(args.run, **run_choices(args))
