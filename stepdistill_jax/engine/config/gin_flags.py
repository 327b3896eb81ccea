"""T5X's flags, as argparse knows them; nothing heavy is imported here."""

import argparse
from collections.abc import Sequence
from typing import NoReturn


class OneLineParser(argparse.ArgumentParser):
    """An argument parser whose errors are one line, without the usage, which --help shows."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message}; see {self.prog} --help\n")


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds --gin_file, --gin_bindings, --gin_search_paths, --tfds_data_dir, --dry_run, and those of several hosts."""
    from stepdistill_jax.engine.cluster import distributed  # sockets and ssl

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
    distributed.add_flags(parser)


def rewrite_gin_args(args: Sequence[str]) -> list[str]:
    """`--gin.NAME=VALUE` as T5X takes it, to `--gin_bindings=NAME = VALUE`.

    Raises:
      ValueError: for a flag without a value.
    """
    rewritten = []
    for arg in args:
        if arg.startswith("--gin."):
            name, equals, value = arg.removeprefix("--gin.").partition("=")
            if not (name and equals and value.strip()):
                raise ValueError(
                    f"{arg}: give a value, e.g. --gin.{name or 'MODEL_DIR'}=\"'runs/my_run'\" or --gin.{name or 'BATCH_SIZE'}=8."
                )
            arg = f"--gin_bindings={name} = {value}"
        rewritten.append(arg)
    return rewritten
