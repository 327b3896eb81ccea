"""What a launcher does: take T5X's flags, make `t5x` mean the engine, read gin, run."""

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

from stepdistill_jax.engine import alias

# Script -> the function that its gin files bind as `<script>_script.<function>`.
ENTRY_POINTS = {"train": "train", "eval": "evaluate", "infer": "infer"}


def add_flags(parser: argparse.ArgumentParser) -> None:
    """T5X's flags."""
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
        "--tfds_data_dir",
        "--data_dir",
        default=None,
        metavar="DIR",
        help="prepared data (default $STEPDISTILL_DATA_DIR, else ./data)",
    )
    parser.add_argument("--dry_run", action="store_true", help="read and print the configuration, then stop")
    for flag in ("--logtostderr", "--alsologtostderr"):
        parser.add_argument(flag, action="store_true", help=argparse.SUPPRESS)


def run_script(script: str, args: argparse.Namespace) -> object:
    """Runs train, eval or infer as the flags say.

    Raises:
      ValueError: one line, for a configuration that cannot be read or run.
    """
    alias.install()
    if args.tfds_data_dir is not None:
        os.environ["STEPDISTILL_DATA_DIR"] = args.tfds_data_dir
    import gin
    import seqio

    from stepdistill_jax.engine import gin_utils

    if args.tfds_data_dir is not None:
        seqio.set_tfds_data_dir_override(args.tfds_data_dir)
    register_entry_points()
    gin_utils.parse_gin_flags(
        [*args.gin_search_paths.split(","), *gin_utils.default_search_paths()],
        args.gin_file,
        args.gin_bindings,
    )
    if args.dry_run:
        print(gin.config_str())
        return None
    name = ENTRY_POINTS[script]
    return gin.get_configurable(getattr(sys.modules["__main__"], name))()


def register_entry_points() -> None:
    """Puts the entry functions into `__main__`, where gin files look for them, and makes them configurable."""
    import gin

    main_module = sys.modules["__main__"]
    for script, name in ENTRY_POINTS.items():
        if not hasattr(main_module, name):
            function = getattr(importlib.import_module(f"stepdistill_jax.engine.{script}"), name)
            setattr(main_module, name, gin.external_configurable(function, name=name, module="__main__"))


def main(script: str, argv: Sequence[str] | None = None) -> None:
    """The whole of a launcher script; a wrong configuration is one line and exit status 2."""
    from stepdistill_jax.engine import gin_utils

    parser = argparse.ArgumentParser(
        prog=f"t5x/{script}.py",
        description=f"Runs {script} with T5X's flags on the engine of stepdistill_jax.",
    )
    add_flags(parser)
    try:
        args = parser.parse_args(gin_utils.rewrite_gin_args(sys.argv[1:] if argv is None else argv))
        run_script(script, args)
    except (ValueError, FileNotFoundError, FloatingPointError) as error:
        if os.environ.get("STEPDISTILL_DEBUG"):
            raise
        parser.exit(2, f"{parser.prog}: error: {error}\n")
