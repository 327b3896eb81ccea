"""`stepdistill demo`: its flags and its call."""

import argparse
from pathlib import Path

EXAMPLES = """\
  stepdistill demo
  stepdistill demo --teacher worked
  stepdistill demo --steps 100        # a quick look; too short to learn"""


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--steps", type=int, help="training steps of each student (default: as gin/dsbs_t5_tiny.gin says)"
    )
    parser.add_argument(
        "--output", type=Path, default=Path("runs/demo"), metavar="DIR", help="default runs/demo"
    )
    parser.add_argument(
        "--teacher",
        default="smollm2",
        choices=["smollm2", "worked"],
        help="the embedded language model (default), or the corpus's worked solutions of all problems",
    )


def run(args: argparse.Namespace) -> None:
    from stepdistill_jax import demo

    demo.run(args.output, steps=args.steps, teacher=args.teacher)
