"""`stepdistill train`: its flags, which are T5X's, and its call."""

import argparse

from stepdistill_jax.launching.flags import add_script_flags

EXAMPLES = """\
  stepdistill train --gin_file=gin/dsbs_t5_tiny.gin --gin.MODEL_DIR="'runs/tiny'\""""


def add_flags(parser: argparse.ArgumentParser) -> None:
    add_script_flags(parser, "train")


def run(args: argparse.Namespace) -> None:
    from stepdistill_jax.launching import launch

    launch.run_script("train", args)
