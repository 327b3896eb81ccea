"""`stepdistill predict`: its flags, and the answers that it prints."""

import argparse
import sys
from pathlib import Path

from stepdistill_jax.base.data_dir_flag import add_data_dir_flag

EXAMPLES = """\
  stepdistill predict runs/tiny "Mia has 12 apples and buys 5 more. How many apples does she have?"
  cat questions.txt | stepdistill predict runs/tiny --rationale"""
LIST = "text"


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, metavar="RUN", help="a run's folder (MODEL_DIR)")
    parser.add_argument(
        "text", nargs="*", metavar="TEXT", help="questions (default: lines of standard input)"
    )
    parser.add_argument(
        "--rationale", action="store_true", help="print the student's rationale instead of its label"
    )
    parser.add_argument("--step", type=int, help="checkpoint to use (default the newest)")
    add_data_dir_flag(parser)


def run(args: argparse.Namespace) -> None:
    from stepdistill_jax.launching import runs

    texts = args.text or [line.rstrip("\n") for line in sys.stdin if line.strip()]
    answers = runs.predict(args.run, texts, rationale=args.rationale, step=args.step, data_dir=args.data_dir)
    for answer in answers:
        print(answer)
