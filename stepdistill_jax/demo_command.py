"""`stepdistill demo`: its flags and its call."""

import argparse
from pathlib import Path

EXAMPLES = """\
  stepdistill demo
  stepdistill demo --teacher worked
  stepdistill demo --teacher worked --steps 100        # a quick look; too short to learn
  stepdistill demo --teacher worked --student smollm2  # a pretrained student, on a tenth of the problems"""


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--steps", type=int, help="training steps of each student (default: 1,000; of smollm2 80)"
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
    parser.add_argument(
        "--student",
        default="tiny",
        choices=["tiny", "smollm2"],
        help="a T5 of 1.4 M parameters from scratch (default), or SmolLM2 135M, pretrained",
    )


def run(args: argparse.Namespace) -> None:
    from stepdistill_jax import demo

    demo.run(args.output, steps=args.steps, teacher=args.teacher, student=args.student)
