"""`stepdistill verify`: its flags, and the tree that it prints."""

import argparse
import sys
from pathlib import Path

from stepdistill_jax.base.data_dir_flag import add_data_dir_flag
from stepdistill_jax.base.visible import visible, visible_line

EXAMPLES = """\
  stepdistill verify data                  # all examples and rationales
  stepdistill verify runs/step_by_step     # a run, and whether its data are still those
  stepdistill verify sweeps/table2"""


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "path", type=Path, metavar="PATH", help="a data folder, a dataset in it, a run's folder, or a sweep's"
    )
    add_data_dir_flag(parser)


def run(args: argparse.Namespace) -> int:
    """Prints the tree; exit status 1 with the first thing that does not fit."""
    from stepdistill_jax.base import locations, quiet
    from stepdistill_jax.datasets import record_io
    from stepdistill_jax.launching import task_modules
    from stepdistill_jax.report.sweep.folder import is_sweep
    from stepdistill_jax.report.verify import records, runs

    quiet.import_tensorflow()
    task_modules.load_descriptions()
    path, data = args.path, locations.data_dir(args.data_dir)
    if not path.is_dir():
        raise FileNotFoundError(f"{path}: no such folder; name a data folder, a run's or a sweep's.")
    if is_sweep(path):
        tree = runs.verify_sweep(path, data)
    elif (path / "run.json").exists() or (path / "metrics.jsonl").exists():
        tree = runs.verify_run(path, data)
    elif (path / record_io.MANIFEST).exists():
        tree = records.verify_records(path)
    elif (path / "examples" / record_io.MANIFEST).exists():
        tree = records.verify_dataset(path)
    elif records.is_data_folder(path):
        tree = records.verify_data(path)
    else:
        raise ValueError(f"{path} holds no data, no run and no sweep; name a folder that does.")
    print(visible("\n".join(tree.lines())))
    problem = next(tree.all_problems(), None)
    if problem is not None:
        print(visible_line(f"stepdistill: {problem}"), file=sys.stderr)
        return 1
    print("All of it is whole, and belongs together.")
    return 0
