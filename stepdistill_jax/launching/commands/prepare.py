"""`stepdistill prepare`: its flags, and what it prints."""

import argparse
from pathlib import Path

from stepdistill_jax.base.data_dir_flag import add_data_dir_flag

EXAMPLES = """\
  stepdistill prepare svamp
  stepdistill prepare cqa --from ../shared/data
  stepdistill prepare t5_vocabulary"""


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="a dataset of tasks/, or t5_vocabulary")
    parser.add_argument(
        "--from", dest="from_folder", type=Path, metavar="FOLDER", help="read files here, do not download"
    )
    add_data_dir_flag(parser)


def run(args: argparse.Namespace) -> None:
    from stepdistill_jax import datasets
    from stepdistill_jax.launching import task_modules

    task_modules.load_tasks()
    manifest = datasets.prepare(args.name, from_folder=args.from_folder, data_dir=args.data_dir)
    unchanged = " (nothing changed)" if manifest.get("unchanged") else ""
    if "vocabulary" in manifest:
        print(f"{manifest['vocabulary']}{unchanged}")
        return
    counts = " / ".join(f"{count:,} {split}" for split, count in manifest["counts"].items())
    print(f"{args.name}: {counts} examples from {manifest['source']}{unchanged}")
    for note in manifest["notes"]:
        print(f"  note: {note}")
    print(f"  licence: {manifest['licence']}")
