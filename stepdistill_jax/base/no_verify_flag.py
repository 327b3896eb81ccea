"""The flag --no_verify, of the subcommands that read a checkpoint, or an export."""

import argparse


def add_no_verify_flag(parser: argparse.ArgumentParser) -> None:
    """Adds --no_verify: the student is read without comparing its files with its checksums."""
    parser.add_argument(
        "--no_verify",
        action="store_true",
        help="don't compare the files of the checkpoint, or of the export, with their checksums",
    )
