"""The command `stepdistill`: one subcommand a stage. Each imports what it needs when it runs, so that --help is quick."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from stepdistill_jax import __version__
from stepdistill_jax.engine.config.gin_flags import OneLineParser, add_flags, rewrite_gin_args

Command = Callable[[argparse.Namespace], int | None]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a subcommand; what a user can cause to fail is one line on standard error and exit status 2."""
    try:
        arguments = rewrite_gin_args(sys.argv[1:] if argv is None else argv)
        if " ".join(arguments[:2]) in (_TEACH_SHOW, _TEACH_SERVE):
            arguments = [" ".join(arguments[:2]), *arguments[2:]]
        return _run(arguments)
    except (ValueError, OSError, FloatingPointError) as error:
        if os.environ.get("STEPDISTILL_DEBUG"):
            raise
        print(f"stepdistill: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stepdistill: interrupted; the same command goes on from the last checkpoint.", file=sys.stderr)
        return 130


_TEACH_SHOW, _TEACH_SERVE = "teach show", "teach serve"  # commands of two words, which argparse hasn't


def _run(argv: Sequence[str]) -> int:
    parser = _parser()
    args, rest = parser.parse_known_args(argv)
    # argparse takes no more texts once a flag has followed RUN: `predict RUN --rationale TEXT`.
    if rest and hasattr(args, "text") and not any(arg.startswith("-") for arg in rest):
        args.text, rest = args.text + rest, []
    if rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    return args.command(args) or 0


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(
        prog="stepdistill",
        description="Distilling step-by-step: small T5 students of large language models.",
        epilog="Settings by environment: STEPDISTILL_DATA_DIR (prepared data, default ./data), STEPDISTILL_TEACHER, "
        "STEPDISTILL_VOCABULARY, STEPDISTILL_PREFIXES (paper or code), STEPDISTILL_CACHE_DIR (token ids, default "
        "./data/token_cache; no keeps none), STEPDISTILL_TASKS (modules with datasets of your "
        "own), STEPDISTILL_DEBUG=1 (whole tracebacks).",
    )
    parser.add_argument("--version", action="version", version=f"stepdistill {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for add in (
        _add_prepare,
        _add_teach,
        _add_teach_show,
        _add_teach_serve,
        _add_train,
        _add_eval,
        _add_infer,
        _add_predict,
        _add_sweep,
        _add_report,
        _add_convert,
        _add_demo,
    ):
        add(commands)
    return parser


def _add(commands, name: str, run: Command, help_text: str, examples: str) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name,
        help=help_text,
        description=help_text[0].upper() + help_text[1:] + ".",
        epilog=f"examples:\n{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(command=run)
    return parser


def _add_data_dir(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data_dir", type=Path, metavar="DIR", help="prepared data (default ./data)")


def _add_prepare(commands) -> None:
    parser = _add(
        commands,
        "prepare",
        _prepare,
        "turn a dataset's published files into examples, split as in the paper",
        "  stepdistill prepare svamp\n  stepdistill prepare cqa --from ../shared/data\n  stepdistill prepare t5_vocabulary",
    )
    parser.add_argument("name", metavar="NAME", help="a dataset of tasks/, or t5_vocabulary")
    parser.add_argument(
        "--from", dest="from_folder", type=Path, metavar="FOLDER", help="read files here, do not download"
    )
    _add_data_dir(parser)


def _prepare(args: argparse.Namespace) -> None:
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


def _add_teach(commands) -> None:
    from stepdistill_jax.teacher import flags, prompt_flags

    parser = _add(
        commands,
        "teach",
        _teach,
        "write a teacher's rationales and labels for a prepared dataset as TFRecords",
        "  stepdistill teach wordproblems --teacher worked\n"
        "  stepdistill teach svamp --teacher recorded --from ../shared/data --score\n"
        "  stepdistill teach svamp --teacher openai:MODEL --base_url http://127.0.0.1:8000/v1 --dry_run\n"
        "  stepdistill teach svamp --teacher openai:MODEL --base_url http://127.0.0.1:8000/v1 --shard 0/4\n"
        "  stepdistill teach show data/svamp/rationales/palm-540b\n"
        "  stepdistill teach serve smollm2 --port 8080        # the embedded model, to be asked by URL",
    )
    parser.add_argument("name", metavar="NAME", help="a prepared dataset")
    parser.add_argument(
        "--teacher",
        required=True,
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
    _add_data_dir(parser)
    flags.add_model_flags(parser)
    flags.add_job_flags(parser)
    prompt_flags.add_prompt_flags(parser)


def _teach(args: argparse.Namespace) -> int | None:
    from stepdistill_jax import teacher
    from stepdistill_jax.launching import task_modules
    from stepdistill_jax.teacher import flags, prompt_flags

    task_modules.load_tasks()
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
    except teacher.JobStopped as stopped:
        print(f"stepdistill: {stopped}", file=sys.stderr)
        return stopped.exit_status
    return None


def _add_teach_show(commands) -> None:
    from stepdistill_jax.teacher import show

    parser = commands.add_parser(_TEACH_SHOW, description="Print a teacher's records readably.")
    parser.set_defaults(command=show.run)
    show.add_show_arguments(parser)


def _add_teach_serve(commands) -> None:
    from stepdistill_jax.teacher.backends import serve

    parser = commands.add_parser(
        _TEACH_SERVE, description="Serve the embedded language model on this machine, to be asked by URL."
    )
    parser.set_defaults(command=serve.run)
    serve.add_serve_arguments(parser)


def _add_train(commands) -> None:
    parser = _add(
        commands,
        "train",
        lambda args: _run_script("train", args),
        "train a student, as python t5x/train.py does",
        "  stepdistill train --gin_file=gin/dsbs_t5_tiny.gin --gin.MODEL_DIR=\"'runs/tiny'\"",
    )
    add_flags(parser)


def _run_script(script: str, args: argparse.Namespace) -> None:
    from stepdistill_jax.launching import launch

    launch.run_script(script, args)


def _add_run_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, metavar="RUN", help="a run's folder (MODEL_DIR)")
    parser.add_argument("--split", default="test", help="train, validation or test (default test)")
    parser.add_argument("--step", type=int, help="checkpoint to use (default the newest)")
    parser.add_argument("--task", metavar="NAME", help="task or mixture (default the run's)")
    parser.add_argument(
        "--gin_bindings",
        action="append",
        default=[],
        metavar="'NAME = VALUE'",
        help="change a setting; also --gin.NAME=VALUE",
    )
    _add_data_dir(parser)


def _run_choices(args: argparse.Namespace) -> dict[str, Any]:
    return {name: getattr(args, name) for name in ("step", "task", "data_dir", "gin_bindings")}


def _add_eval(commands) -> None:
    parser = _add(
        commands,
        "eval",
        _eval,
        "score a run's checkpoint through SeqIO; writes RUN/<split>_eval",
        "  stepdistill eval runs/tiny\n  stepdistill eval runs/tiny --split validation --step 500\n"
        "  stepdistill eval runs/xxl --gin.NUM_PARTITIONS=4",
    )
    _add_run_flags(parser)


def _eval(args: argparse.Namespace) -> None:
    from stepdistill_jax.launching import runs

    runs.evaluate(args.run, split=args.split, **_run_choices(args))


def _add_infer(commands) -> None:
    parser = _add(
        commands,
        "infer",
        _infer,
        "write a run's predictions or scores for every example of a split as JSON lines",
        "  stepdistill infer runs/tiny\n  stepdistill infer runs/tiny --task wordproblems_rationale --mode score",
    )
    _add_run_flags(parser)
    parser.add_argument("--mode", default="predict", choices=["predict", "score", "predict_with_aux"])


def _infer(args: argparse.Namespace) -> None:
    from stepdistill_jax.launching import runs

    for file in runs.infer(args.run, split=args.split, mode=args.mode, **_run_choices(args)):
        print(file)


def _add_predict(commands) -> None:
    parser = _add(
        commands,
        "predict",
        _predict,
        "answer questions given as text, one answer a line",
        '  stepdistill predict runs/tiny "Mia has 12 apples and buys 5 more. How many apples does she have?"\n'
        "  cat questions.txt | stepdistill predict runs/tiny --rationale",
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="a run's folder (MODEL_DIR)")
    parser.add_argument(
        "text", nargs="*", metavar="TEXT", help="questions (default: lines of standard input)"
    )
    parser.add_argument(
        "--rationale", action="store_true", help="print the student's rationale instead of its label"
    )
    parser.add_argument("--step", type=int, help="checkpoint to use (default the newest)")
    _add_data_dir(parser)


def _predict(args: argparse.Namespace) -> None:
    from stepdistill_jax.launching import runs

    texts = args.text or [line.rstrip("\n") for line in sys.stdin if line.strip()]
    answers = runs.predict(args.run, texts, rationale=args.rationale, step=args.step, data_dir=args.data_dir)
    for answer in answers:
        print(answer)


def _add_sweep(commands) -> None:
    from stepdistill_jax.experiments import command

    parser = _add(
        commands,
        "sweep",
        command.run,
        "do an experiment file's runs: every combination of data, methods, students, shares and seeds",
        "  stepdistill sweep experiments/small/every_method.toml\n  stepdistill sweep experiments/small/table2.toml --jobs 2\n"
        "  stepdistill sweep experiments/paper/table2.toml --check\n"
        "  stepdistill sweep experiments/paper/table2.toml --print > commands.txt",
    )
    command.add_sweep_arguments(parser)
    _add_data_dir(parser)


def _add_report(commands) -> None:
    parser = _add(
        commands,
        "report",
        _report,
        "draw runs, or a sweep, into one page that opens offline, with tables and figures",
        "  stepdistill report runs/fine_tuning runs/step_by_step --output report\n"
        "  stepdistill report sweeps/table2        # writes sweeps/table2/report",
    )
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


def _report(args: argparse.Namespace) -> None:
    from stepdistill_jax.report import is_sweep, write_report, write_sweep_report

    sweeps = [folder for folder in args.runs if is_sweep(folder)]
    if sweeps:
        if len(args.runs) > 1 or args.output or args.teachers:
            raise ValueError(
                f"{sweeps[0]} is a sweep's folder, which is reported alone, without --output and --teacher; "
                "give run folders for those."
            )
        print(write_sweep_report(sweeps[0]))
        return
    print(write_report(args.runs, args.output, teachers=args.teachers))


def _add_convert(commands) -> None:
    parser = _add(
        commands,
        "convert",
        _convert,
        "turn a Hugging Face T5 into a checkpoint to begin with, or a checkpoint into a Hugging Face folder",
        "  stepdistill convert ~/models/t5-v1_1-base checkpoints/t5_1_1_base\n"
        "  stepdistill convert hf://google/flan-t5-small checkpoints/flan_t5_small --step 1198000\n"
        "  stepdistill convert runs/svamp/checkpoint_1010000 exported/svamp --dtype bfloat16",
    )
    parser.add_argument(
        "source",
        metavar="SRC",
        help="a folder with config.json and weights (safetensors or .bin), hf://OWNER/NAME, or a checkpoint_<step>",
    )
    parser.add_argument("destination", type=Path, metavar="DST", help="a folder that is not there yet")
    parser.add_argument("--to", choices=["checkpoint", "hf"], help="default: the one that SRC is not")
    parser.add_argument(
        "--step",
        type=int,
        help="to give the checkpoint (default 1000000, that of pretrained T5; FLAN-T5 small's is 1198000)",
    )
    parser.add_argument(
        "--dtype", choices=["float32", "bfloat16", "float16"], help="of the weights (default as they are)"
    )
    parser.add_argument(
        "--like",
        type=Path,
        metavar="FOLDER",
        help="a Hugging Face folder whose settings and tokenizer an export takes (default the one it began with)",
    )
    parser.add_argument(
        "--vocabulary", type=Path, metavar="FILE", help="SentencePiece model of an export (default the run's)"
    )


def _convert(args: argparse.Namespace) -> None:
    from stepdistill_jax.interop import convert

    for line in convert(
        args.source,
        args.destination,
        to=args.to,
        step=args.step,
        dtype=args.dtype,
        like=args.like,
        vocabulary=args.vocabulary,
    ):
        print(line)


def _add_demo(commands) -> None:
    parser = _add(
        commands,
        "demo",
        _demo,
        "distil the embedded word problems end to end: a language model teaches, two students learn, a report",
        "  stepdistill demo\n  stepdistill demo --teacher worked\n  stepdistill demo --steps 100        # a quick look; too short to learn",
    )
    parser.add_argument(
        "--steps", type=int, help="training steps of each student (default: as gin/dsbs_t5_tiny.gin says)"
    )
    parser.add_argument(
        "--output", type=Path, default=Path("runs/demo"), metavar="DIR", help="default runs/demo"
    )
    parser.add_argument(
        "--teacher",
        default="smollm2",
        choices=["smollm2", "worked"],
        help="the embedded language model (default), or the corpus's worked solutions of all problems",
    )


def _demo(args: argparse.Namespace) -> None:
    from stepdistill_jax import demo

    demo.run(args.output, steps=args.steps, teacher=args.teacher)


if __name__ == "__main__":
    sys.exit(main())
