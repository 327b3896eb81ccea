"""`stepdistill infer`: its flags, and the files that it names."""

import argparse

from stepdistill_jax.base.visible import visible
from stepdistill_jax.launching.commands.run_flags import add_run_flags, run_choices

EXAMPLES = """\
  stepdistill infer runs/tiny
  stepdistill infer runs/tiny --task wordproblems_rationale --mode score"""


def add_flags(parser: argparse.ArgumentParser) -> None:
    add_run_flags(parser)
    parser.add_argument("--mode", default="predict", choices=["predict", "score", "predict_with_aux"])


def run(args: argparse.Namespace) -> None:
    from stepdistill_jax.launching import runs

    for file in runs.infer(args.run, mode=args.mode, **run_choices(args)):
        print(visible(str(file)))
