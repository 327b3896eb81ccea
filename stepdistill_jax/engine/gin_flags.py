"""T5X's flags, as argparse knows them; nothing heavy is imported here."""

import argparse


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds --gin_file, --gin_bindings, --gin_search_paths, --tfds_data_dir and --dry_run."""
    parser.add_argument(
        "--gin_file",
        action="append",
        default=[],
        metavar="FILE",
        help="gin file; may be given again, later ones win",
    )
    parser.add_argument(
        "--gin_bindings",
        action="append",
        default=[],
        metavar="'NAME = VALUE'",
        help="one binding; also --gin.NAME=VALUE",
    )
    parser.add_argument(
        "--gin_search_paths",
        default=".",
        metavar="DIRS",
        help="folders of gin files, separated by commas (default .)",
    )
    parser.add_argument(
        "--tfds_data_dir", "--data_dir", default=None, metavar="DIR", help="prepared data (default ./data)"
    )
    parser.add_argument("--dry_run", action="store_true", help="read and print the configuration, then stop")
    for flag in ("--logtostderr", "--alsologtostderr"):
        parser.add_argument(flag, action="store_true", help=argparse.SUPPRESS)
