"""The command `stepdistill`: the list of its subcommands, and which module does each.

A stage has its flags and its call in a module of its own: add_flags(parser), and run(args), which returns an exit status, or
None for 0; EXAMPLES for --help; LIST, the name of a list of arguments that may go on behind flags. Only the module that is
asked for is imported, and what it works with when it runs: help is quick.
"""

import argparse
import codecs
import importlib
import os
import sys
from collections.abc import Sequence

from stepdistill_jax import __version__
from stepdistill_jax.base.messages import INTERRUPTED, unexpected
from stepdistill_jax.base.visible import visible_line
from stepdistill_jax.engine.config.gin_flags import OneLineParser, rewrite_gin_args

# Subcommand -> its module below stepdistill_jax, and its line of help.
_COMMANDS = {
    "prepare": (
        "preparing.command",
        "turn a table of your own, or a dataset's published files, into examples",
    ),
    "teach": (
        "teacher.command",
        "write a teacher's rationales and labels for a prepared dataset as TFRecords",
    ),
    "train": (
        "launching.commands.train",
        "train a student on a prepared dataset: by names, or as python t5x/train.py does by gin files",
    ),
    "eval": (
        "launching.commands.eval",
        "score a run's checkpoint through SeqIO; writes RUN/<split>_eval",
    ),
    "infer": (
        "launching.commands.infer",
        "write a run's predictions or scores for every example of a split as JSON lines",
    ),
    "predict": ("launching.commands.predict", "answer texts, one answer a line, or the rows of a table"),
    "serve": (
        "serving.command",
        "serve a run's student, or an export, over HTTP: POST /predict, /healthz, /readyz, /metrics",
    ),
    "precompile": (
        "launching.commands.precompile",
        "compile a run's step for hardware that need not be there: memory, exchange and time of each device",
    ),
    "sweep": (
        "experiments.command",
        "do an experiment file's runs: every combination of data, methods, students, shares and seeds",
    ),
    "report": (
        "report.command",
        "draw runs, or a sweep, into one page that opens offline, with tables and figures",
    ),
    "verify": (
        "report.verify.command",
        "check that data, a run or a sweep is whole, and belongs to what it came from",
    ),
    "convert": (
        "interop.command",
        "turn a Hugging Face model or a GGUF file into a checkpoint to begin with, or a checkpoint into a Hugging Face folder",
    ),
    "export": (
        "exports.command",
        "write a run's student for other programs: CTranslate2, Hugging Face, GGUF; checked against the checkpoint",
    ),
    "demo": (
        "demo_command",
        "distil the embedded word problems end to end: a language model teaches, two students learn, a report",
    ),
}
# Subcommands of two words, which argparse hasn't; the page of the first word names them.
_OF_TWO_WORDS = {
    "teach show": ("teacher.show", "Print a teacher's records readably."),
    "teach serve": (
        "teacher.backends.serve",
        "Serve the embedded language model on this machine, to be asked by URL.",
    ),
}

_BROKEN_PIPE_STATUS = 141  # as a shell has it for SIGPIPE


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a subcommand; what a user can cause to fail is one line on standard error and exit status 2.

    An error may have a status of its own, such as `folder_lock.FolderInUse`.
    """
    try:
        arguments = rewrite_gin_args(sys.argv[1:] if argv is None else argv)
        if " ".join(arguments[:2]) in _OF_TWO_WORDS:
            arguments = [" ".join(arguments[:2]), *arguments[2:]]
        status = _run(arguments)
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # whoever read what we print has enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python complains when it ends
        return _BROKEN_PIPE_STATUS
    except (ValueError, OSError, FloatingPointError) as error:
        if os.environ.get("STEPDISTILL_DEBUG"):
            raise
        print(f"stepdistill: error: {_told(error)}", file=sys.stderr)
        return getattr(error, "exit_status", 2)
    except KeyboardInterrupt:
        print(f"stepdistill: {INTERRUPTED}", file=sys.stderr)
        return 130
    except Exception as error:  # a fault, of ours or of a library
        if os.environ.get("STEPDISTILL_DEBUG"):
            raise
        print(f"stepdistill: error: {unexpected(error)}", file=sys.stderr)
        return 1


def _told(error: Exception) -> str:
    """An error in a line; where standard output cannot hold a character, that and what to set."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    if isinstance(error, UnicodeEncodeError) and codecs.lookup(encoding).name != "utf-8":
        character = error.object[error.start]
        return f"standard output is {encoding}, which has no {character!a}; set PYTHONIOENCODING=utf-8, or a UTF-8 locale."
    return visible_line(error)


def _run(argv: Sequence[str]) -> int:
    parser = parser_of(argv[0] if argv else "")
    args, rest = parser.parse_known_args(argv)
    # For argparse a list ends at the first flag behind it: `predict RUN one --rationale two`.
    if rest and getattr(args, "list_name", None) and not any(arg.startswith("-") for arg in rest):
        vars(args)[args.list_name].extend(rest)
        rest = []
    if rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    return args.run_command(args) or 0


def parser_of(command: str) -> argparse.ArgumentParser:
    """The parser of the whole command line, in which only this subcommand has its flags."""
    parser = OneLineParser(
        prog="stepdistill",
        description="Distilling step-by-step: small students (T5, language models) of large language models.",
        epilog="Settings by environment: STEPDISTILL_DATA_DIR (prepared data, default ./data), STEPDISTILL_TEACHER, "
        "STEPDISTILL_VOCABULARY, STEPDISTILL_PREFIXES (paper or code), STEPDISTILL_CACHE_DIR (token ids, default "
        "./data/token_cache; no keeps none), STEPDISTILL_TASKS (modules with datasets of your "
        "own), STEPDISTILL_MIXED_DATA=allow (data that do not belong together are noted, not refused), STEPDISTILL_DEBUG=1 (whole tracebacks).",
    )
    parser.add_argument("--version", action="version", version=f"stepdistill {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, (module, help_text) in _COMMANDS.items():
        one = commands.add_parser(
            name, help=help_text, description=help_text[0].upper() + help_text[1:] + "."
        )
        if name == command:
            _fill(one, module)
    if command in _OF_TWO_WORDS:
        module, description = _OF_TWO_WORDS[command]
        _fill(commands.add_parser(command, description=description), module)
    return parser


def _fill(parser: argparse.ArgumentParser, module: str) -> None:
    stage = importlib.import_module(f"stepdistill_jax.{module}")
    stage.add_flags(parser)
    parser.set_defaults(run_command=stage.run, list_name=getattr(stage, "LIST", None))
    if hasattr(stage, "EXAMPLES"):
        parser.epilog = f"examples:\n{stage.EXAMPLES}"
        parser.formatter_class = argparse.RawDescriptionHelpFormatter


if __name__ == "__main__":
    sys.exit(main())
