"""`stepdistill train`: by names, by gin files with T5X's flags, or as a run was trained."""

import argparse
from collections.abc import Sequence

from stepdistill_jax.engine.config.gin_flags import OneLineParser
from stepdistill_jax.launching.flags import add_script_flags
from stepdistill_jax.launching.named import again, settings

EXAMPLES = """\
  stepdistill train tickets --student t5_1_1_small --from checkpoints/t5_1_1_small --method step_by_step
  stepdistill train wordproblems --student t5_1_1_tiny --method fine_tuning --dry_run     # prints the gin, trains nothing
  stepdistill train --again runs/tickets --output runs/tickets_seed1 --seed 1
  stepdistill train --gin_file=gin/dsbs_t5_tiny.gin --gin.MODEL_DIR="'runs/tiny'\""""


def add_flags(parser: argparse.ArgumentParser) -> None:
    settings.add_flags(parser)
    add_script_flags(parser, "train")


def run(args: argparse.Namespace) -> None:
    from stepdistill_jax.launching import launch
    from stepdistill_jax.launching.named import training

    given = settings.given(args)
    if args.again is not None:
        if args.dataset is not None:
            raise ValueError(f"--again {args.again} says the dataset; leave {args.dataset} out.")
        _train_again(args, given)
    elif args.dataset is not None:
        training.train_as_told(settings.Settings(args.dataset, **given), args)
    elif by_name := settings.flags_of(given):
        raise ValueError(f"{by_name[0]} goes with a dataset: stepdistill train NAME {' … '.join(by_name)} …")
    else:
        args.gin_bindings = list(given.get("bindings", ()))
        launch.run_script("train", args)


def _train_again(args: argparse.Namespace, changes: dict) -> None:
    from stepdistill_jax.launching import launch
    from stepdistill_jax.launching.named import training

    found = again.read(args.again, changes, _parsed)
    args.tfds_data_dir = args.tfds_data_dir or found.data_dir
    if found.settings is not None:
        training.train_as_told(found.settings, args)
        return
    args.gin_file = [str(found.config), *args.gin_file]
    args.gin_bindings = [*changes.get("bindings", ()), f"MODEL_DIR = {str(found.output)!r}"]
    launch.run_script("train", args)


def _parsed(words: Sequence[str]) -> argparse.Namespace:
    parser = OneLineParser(prog="stepdistill train")
    add_flags(parser)
    return parser.parse_args(list(words))
