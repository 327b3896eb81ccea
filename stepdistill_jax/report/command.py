"""`stepdistill report`: its flags, and the page that it names."""

import argparse
from pathlib import Path

from stepdistill_jax.base.visible import visible

EXAMPLES = """\
  stepdistill report runs/fine_tuning runs/step_by_step --output report
  stepdistill report sweeps/table2        # writes sweeps/table2/report"""


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run folders, or a sweep's")
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="default RUN/report, or ./report-… for several"
    )
    parser.add_argument(
        "--teacher",
        dest="teachers",
        action="append",
        default=[],
        type=Path,
        metavar="FOLDER",
        help="rationales to list beside",
    )


def run(args: argparse.Namespace) -> None:
    from stepdistill_jax.report import is_sweep, write_report, write_sweep_report

    sweeps = [folder for folder in args.runs if is_sweep(folder)]
    if sweeps:
        if len(args.runs) > 1 or args.output or args.teachers:
            raise ValueError(
                f"{sweeps[0]} is a sweep's folder, which is reported alone, without --output and --teacher; "
                "give run folders for those."
            )
        print(visible(str(write_sweep_report(sweeps[0]))))
        return
    print(visible(str(write_report(args.runs, args.output, teachers=args.teachers))))
