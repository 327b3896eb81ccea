"""The sub-command `stepdistill sweep`: its flags, and what each does."""

import argparse
from pathlib import Path

from stepdistill_jax.base.data_dir_flag import add_data_dir_flag
from stepdistill_jax.base.environment import set_for_a_while
from stepdistill_jax.base.visible import visible

EXAMPLES = """\
  stepdistill sweep experiments/small/every_method.toml
  stepdistill sweep experiments/small/table2.toml --jobs 2
  stepdistill sweep experiments/paper/table2.toml --check
  stepdistill sweep experiments/paper/table2.toml --print > commands.txt
  stepdistill sweep --list        # the experiment files that come with the package"""


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "file",
        nargs="?",
        type=Path,
        metavar="FILE",
        help="an experiment file, such as experiments/small/table2.toml: of this folder, else of the package's own",
    )
    parser.add_argument(
        "--output", type=Path, metavar="SWEEP", help="default runs/<folder>_<file> of the experiment file"
    )
    parser.add_argument("--jobs", type=int, default=1, metavar="K", help="runs at a time (default 1)")
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--list",
        action="store_true",
        help="list the runs, those that are done and the others; without FILE, the package's experiment files",
    )
    what.add_argument(
        "--check", action="store_true", help="read all gin files and build all students in shape only"
    )
    what.add_argument(
        "--print", action="store_true", help="print a shell command for every run, for a cluster's array job"
    )
    what.add_argument("--only", metavar="RUN_ID", help="do this run alone, in this process")
    parser.add_argument(
        "--child", action="store_true", help=argparse.SUPPRESS
    )  # of a sweep, and ends with it
    add_data_dir_flag(parser)


def run(args: argparse.Namespace) -> int:
    """Does what the flags say; returns the exit status."""
    from stepdistill_jax.experiments import checking, children, planned_run, prepared_data, single_run, sweep
    from stepdistill_jax.experiments.experiment_file import read_experiment
    from stepdistill_jax.experiments.own_experiments import titles

    if args.file is None and args.list:
        for file, title in titles().items():
            print(visible(f"{file:<40} {title}"))
        return 0
    if args.file is None:
        raise ValueError(
            "sweep needs a FILE, such as experiments/small/table2.toml; see stepdistill sweep --list."
        )
    if args.child:
        children.end_with_parent()
    with set_for_a_while(STEPDISTILL_DATA_DIR=args.data_dir):  # which describes datasets, too
        experiment = read_experiment(args.file)
    output = args.output or planned_run.default_output(experiment)
    where = {"output": output, "data_dir": args.data_dir}
    if args.list:
        print(*map(visible, sweep.listing(experiment, output)), sep="\n")
    elif args.check:
        for line in checking.check(experiment):
            print(visible(line), flush=True)
        print(
            f"{args.file}: {len(planned_run.planned_runs(experiment))} runs; every gin file is read, every student built"
        )
    elif args.print:
        for planned in planned_run.planned_runs(experiment):
            print(single_run.command_of(planned, file=args.file, **where))
    elif args.only:
        planned = planned_run.find_run(experiment, args.only)
        command = single_run.command_of(planned, file=args.file, **where)
        if not args.child:
            prepared_data.provide_data([planned], data_dir=args.data_dir)
            sweep.begin_folder(experiment, output)
        single_run.do_run(planned, command=command, **where)
    else:
        return sweep.sweep(experiment, jobs=args.jobs, **where)
    return 0
