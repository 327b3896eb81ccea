"""`stepdistill predict`: its flags, and the answers that it prints or writes."""

import argparse
import io
import sys
from pathlib import Path
from typing import TextIO

from stepdistill_jax.base.data_dir_flag import add_data_dir_flag
from stepdistill_jax.base.no_verify_flag import add_no_verify_flag
from stepdistill_jax.base.visible import visible

EXAMPLES = """\
  stepdistill predict runs/tiny "Mia has 12 apples and buys 5 more. How many apples does she have?"
  cat questions.txt | stepdistill predict runs/tiny --rationale
  stepdistill predict runs/tickets --input new.csv --output answers.csv --abstain_below 0.8
  stepdistill predict runs/tickets --input new.jsonl --output answers.csv --inputs "{title}\\n{text}" --rationale"""
LIST = "text"


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, metavar="RUN", help="a run's folder (MODEL_DIR), or an export's")
    parser.add_argument(
        "text",
        nargs="*",
        metavar="TEXT",
        help="questions (default: lines of standard input, an answer for each, a blank one for a blank line)",
    )
    parser.add_argument(
        "--rationale",
        action="store_true",
        help="print the student's rationale instead of its label; with --output, beside it",
    )
    parser.add_argument(
        "--step", type=int, help="checkpoint to use (default the best that the run keeps, else the newest)"
    )
    table = parser.add_argument_group("a table in, a table out; interrupted, the same command goes on")
    table.add_argument("--input", type=Path, metavar="FILE", help="csv, tsv, jsonl, json or parquet")
    table.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="csv, tsv or jsonl: the rows of --input, with label and probability behind their own columns",
    )
    table.add_argument(
        "--inputs",
        metavar="TEMPLATE",
        help="what the student reads of a row: '{subject}\\n{body}', or columns (default: as in training)",
    )
    table.add_argument(
        "--abstain_below",
        type=float,
        default=0.0,
        metavar="P",
        help="leave the label empty where its probability is smaller",
    )
    table.add_argument("--encoding", help="of --input (default UTF-8, or what its mark says)")
    table.add_argument("--delimiter", help="of --input (default: found)")
    parser.add_argument(
        "--num_partitions",
        type=int,
        default=1,
        metavar="N",
        help="devices that hold one copy of the student (default 1); the others share the rows",
    )
    add_no_verify_flag(parser)
    add_data_dir_flag(parser)


def run(args: argparse.Namespace) -> None:
    if args.input is not None or args.output is not None:
        _answer_table(args)
        return
    for name in ("inputs", "encoding", "delimiter", "abstain_below"):
        if getattr(args, name):
            raise ValueError(f"predict: --{name} is for a table; give --input and --output, too.")
    from stepdistill_jax.launching import runs
    from stepdistill_jax.tables import looks_like_table

    if len(args.text) == 1 and looks_like_table(args.text[0]) and Path(args.text[0]).is_file():
        raise ValueError(
            f"predict: {args.text[0]} is a file, not a text; give --input {args.text[0]} and --output."
        )
    answers = runs.predict(
        args.run,
        args.text or _lines_of(sys.stdin),
        rationale=args.rationale,
        step=args.step,
        data_dir=args.data_dir,
        num_partitions=args.num_partitions,
        verify=not args.no_verify,
    )
    # A program that reads them gets them as they are, but for line breaks: a line is an answer.
    for answer in answers:
        line = "\\n".join(answer.splitlines())
        print(visible(line) if sys.stdout.isatty() else line)


def _lines_of(file: TextIO) -> list[str]:
    """The lines of standard input, of whatever system, without a mark of UTF-8 before the first.

    Raises:
      ValueError: names the line that is not UTF-8.
    """
    if isinstance(file, io.TextIOWrapper):
        file.reconfigure(encoding="utf-8", errors="surrogateescape")
    lines = [line.removesuffix("\n").removesuffix("\r") for line in file]
    for number, line in enumerate(lines, start=1):
        if not line.isascii() and line.encode("utf-8", "replace").decode("utf-8") != line:
            raise ValueError(
                f"predict: line {number} of standard input is not UTF-8: {line!r:.40}; convert it, as by iconv -f cp1252 -t utf-8."
            )
    return [line.removeprefix("\ufeff") if place == 0 else line for place, line in enumerate(lines)]


def _answer_table(args: argparse.Namespace) -> None:
    from stepdistill_jax.base.text_fit import share
    from stepdistill_jax.launching import answered_tables

    if args.text:
        raise ValueError(f"predict: both a text ({args.text[0]!r:.40}) and a table; give one of them.")
    for name in ("input", "output"):
        if getattr(args, name) is None:
            raise ValueError(f"predict: --{name} is missing; a table goes in by --input and out by --output.")
    answered = answered_tables.answer_table(
        args.run,
        args.input,
        args.output,
        inputs=args.inputs,
        rationale=args.rationale,
        abstain_below=args.abstain_below,
        step=args.step,
        encoding=args.encoding,
        delimiter=args.delimiter,
        data_dir=args.data_dir,
        num_partitions=args.num_partitions,
        verify=not args.no_verify,
    )
    for sentence in answered.misfits:
        print(visible(sentence), file=sys.stderr)
    print(visible(f"{args.output}: {answered.num_rows:,} rows, with {', '.join(answered.columns)}"))
    if answered.num_blank:
        print(f"  {share(answered.num_blank, answered.num_rows)} rows are blank, and have no answer")
    if answered.num_abstained:
        print(
            f"  {share(answered.num_abstained, answered.num_rows)} rows have no label, as its probability is below "
            f"{args.abstain_below:g}"
        )
