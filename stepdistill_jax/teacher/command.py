"""`stepdistill teach`: its flags and its call. Those of `teach show` and `teach serve` are with what they do."""

import argparse
import shlex
import sys
from pathlib import Path

from stepdistill_jax.base.data_dir_flag import add_data_dir_flag, as_typed
from stepdistill_jax.base.visible import visible_line
from stepdistill_jax.teacher import flags, prompt_flags

EXAMPLES = """\
  stepdistill teach wordproblems --teacher worked
  stepdistill teach svamp --teacher recorded --from ../shared/data --score
  stepdistill teach tickets --prompt_from 8           # a prompt file to begin with, of training rows
  stepdistill teach tickets --teacher openai:MODEL --base_url http://127.0.0.1:8000/v1 --score
  stepdistill teach svamp --teacher openai:MODEL --base_url http://127.0.0.1:8000/v1 --dry_run
  stepdistill teach svamp --teacher openai:MODEL --base_url http://127.0.0.1:8000/v1 --shard 0/4
  stepdistill teach show data/wordproblems/rationales/worked
  stepdistill teach serve smollm2 --port 8080        # the embedded model, to be asked by URL"""


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="a prepared dataset")
    parser.add_argument(
        "--teacher",
        metavar="TEACHER",
        help="'openai:MODEL' (any OpenAI-compatible server) or another language model, 'recorded' (with --from), "
        "or 'worked' (the dataset's own solutions); see docs/teacher.md",
    )
    parser.add_argument(
        "--from", dest="from_folder", type=Path, metavar="FOLDER", help="recorded raw completions"
    )
    parser.add_argument(
        "--teacher_name",
        metavar="NAME",
        help="folder of the teacher (default: the dataset's, or by the model)",
    )
    parser.add_argument(
        "--score", action="store_true", help="print the teacher's few-shot accuracy on each split"
    )
    add_data_dir_flag(parser)
    flags.add_model_flags(parser)
    flags.add_job_flags(parser)
    prompt_flags.add_prompt_flags(parser)


def run(args: argparse.Namespace) -> int:
    """Does the job; returns the exit status, that of `JobStopped` or `ServerGone` where that ended it."""
    from stepdistill_jax import teacher
    from stepdistill_jax.launching import task_modules

    task_modules.load_tasks(args.data_dir)
    if args.prompt_from is not None:
        return _write_starter(args)
    if args.teacher is None:
        raise ValueError(
            "--teacher is missing: say who answers, such as --teacher openai:MODEL --base_url URL; --prompt_from N alone writes a "
            "prompt file."
        )
    try:
        teacher.teach(
            args.name,
            teacher=args.teacher,
            from_folder=args.from_folder,
            teacher_name=args.teacher_name,
            data_dir=args.data_dir,
            score=args.score,
            model_settings=flags.model_settings(args),
            prompting=prompt_flags.prompt_settings(args),
            job_settings=flags.job_settings(args),
        )
    except (teacher.JobStopped, teacher.ServerGone) as stopped:
        print(f"stepdistill: {visible_line(stopped)}", file=sys.stderr)
        return stopped.exit_status
    return 0


def _write_starter(args: argparse.Namespace) -> int:
    from stepdistill_jax import datasets
    from stepdistill_jax.teacher.prompting import starter_file

    dataset = datasets.get(args.name, args.data_dir)
    path = Path(args.prompt) if args.prompt else datasets.data_dir(args.data_dir) / args.name / "prompt.txt"
    examples = datasets.stream_examples(args.name, "train", args.data_dir)
    missing = starter_file.write(path, dataset, examples, args.prompt_from)
    todo = (
        f"write its {missing} rationales, then" if missing else "see whether they lead to their labels, then"
    )
    print(visible_line(f"Wrote {path}: {args.prompt_from} worked examples. Next, {todo}:"))
    command = f"stepdistill teach {args.name} --teacher openai:MODEL --base_url URL --prompt {shlex.quote(str(path))}"
    print(visible_line(command + as_typed(args.data_dir)))
    return 0
