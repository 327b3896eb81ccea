"""The flag --no_verify, of the subcommands that read a checkpoint."""

import argparse


def add_no_verify_flag(parser: argparse.ArgumentParser) -> None:
    """Adds --no_verify: the checkpoint is read without comparing its files with its checksums."""
    parser.add_argument(
        "--no_verify", action="store_true", help="don't compare the checkpoint's files with its checksums"
    )
