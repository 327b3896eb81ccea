"""The flags of `stepdistill teach` that say how a language model is reached, and how the job goes about it."""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from stepdistill_jax.teacher.asking.job_settings import JobSettings
    from stepdistill_jax.teacher.backends.teachers import ModelSettings


def add_model_flags(parser: argparse.ArgumentParser) -> None:
    """Adds those of a language model: server, API, key, time."""
    group = parser.add_argument_group("language model")
    group.add_argument(
        "--base_url",
        default="",
        metavar="URL",
        help="OpenAI-compatible server, such as http://127.0.0.1:8000/v1",
    )
    group.add_argument("--api", default="", choices=["chat", "completions"], help="default: the teacher's")
    group.add_argument(
        "--api_key_env",
        default="OPENAI_API_KEY",
        metavar="NAME",
        help="environment variable that holds the key (default OPENAI_API_KEY)",
    )
    group.add_argument(
        "--timeout", type=float, default=600.0, metavar="SECONDS", help="of one answer (default 600)"
    )
    group.add_argument(
        "--teacher_option",
        dest="teacher_options",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="the teacher's own setting; VALUE may be JSON",
    )


def add_job_flags(parser: argparse.ArgumentParser) -> None:
    """Adds those of the job: pace, failures, shards, prices."""
    group = parser.add_argument_group("job", "stopped or killed, the same command goes on where it was")
    group.add_argument(
        "--concurrency", type=int, default=32, metavar="N", help="requests at once, at most (default 32)"
    )
    group.add_argument("--requests_per_minute", type=float, metavar="N", help="of this process")
    group.add_argument(
        "--tokens_per_minute", type=float, metavar="N", help="of this process, prompts and answers"
    )
    group.add_argument("--max_tries", type=int, default=8, metavar="N", help="of a request (default 8)")
    group.add_argument(
        "--max_outage",
        default="30m",
        metavar="TIME",
        help="how long the server may be away before the job ends, with status 69: 90s, 30m, 2h (default 30m)",
    )
    group.add_argument(
        "--max_failed",
        type=float,
        default=0.05,
        metavar="SHARE",
        help="of the examples; more failed ones stop the job (default 0.05)",
    )
    group.add_argument("--retry_failed", action="store_true", help="ask again what the server refused before")
    group.add_argument(
        "--reparse",
        action="store_true",
        help="read the stored answers again, ask nothing, and say how many labels and rationales change",
    )
    group.add_argument(
        "--rows", metavar="SPLIT=N,…", help="only the first N examples of these splits (default all)"
    )
    group.add_argument(
        "--first",
        type=int,
        default=20,
        metavar="N",
        help="ask N examples and show answers and cost before the rest is asked (default 20; 0 asks all at once)",
    )
    group.add_argument(
        "--yes",
        action="store_true",
        help="ask the rest without a question, as is done anyway where no terminal is",
    )
    group.add_argument("--shard", metavar="i/n", help="do part i (from 0) of n, for many workers")
    group.add_argument(
        "--merge", type=int, metavar="n", help="put the n shards' answers together, ask nothing"
    )
    group.add_argument("--shard_size", type=int, metavar="N", help="records a file (default 50,000)")
    group.add_argument(
        "--prices", type=Path, metavar="FILE", help="JSON: dollars per million tokens by model"
    )
    group.add_argument("--price_prompt", type=float, metavar="DOLLARS", help="per million prompt tokens")
    group.add_argument("--price_completion", type=float, metavar="DOLLARS", help="per million answer tokens")
    group.add_argument(
        "--dry_run", action="store_true", help="print one prompt, the tokens and the cost; ask nothing"
    )


def model_settings(args: argparse.Namespace) -> "ModelSettings":
    """The settings that the flags say.

    Raises:
      ValueError: for values that make no sense.
    """
    from stepdistill_jax.teacher.backends.teachers import ModelSettings

    if not args.timeout > 0:
        raise ValueError(f"--timeout {args.timeout:g}: give seconds above 0.")
    return ModelSettings(
        base_url=args.base_url,
        api=args.api,
        api_key_env=args.api_key_env,
        timeout_seconds=args.timeout,
        concurrency=args.concurrency,
        asks=not args.reparse,
        options=dict(_option(text) for text in args.teacher_options),
    )


def job_settings(args: argparse.Namespace) -> "JobSettings":
    """The settings that the flags say.

    Raises:
      ValueError: for values that make no sense.
    """
    from stepdistill_jax.teacher.asking.job_settings import (
        JobSettings,
        Prices,
        parse_duration,
        parse_rows,
        parse_shard,
        read_prices,
    )

    prices = None
    if args.prices is not None:
        prices = read_prices(args.prices, args.teacher.partition(":")[2])
    elif args.price_prompt is not None or args.price_completion is not None:
        prices = Prices(args.price_prompt or 0.0, args.price_completion or 0.0)
    settings: dict[str, Any] = {
        name: getattr(args, name)
        for name in (
            "concurrency",
            "requests_per_minute",
            "tokens_per_minute",
            "max_tries",
            "max_failed",
            "retry_failed",
            "reparse",
            "merge",
            "first",
            "dry_run",
        )
    }
    settings["is_attended"] = not args.yes and _is_terminal(sys.stdin) and _is_terminal(sys.stderr)
    settings["max_outage_seconds"] = parse_duration(args.max_outage)
    if args.shard_size is not None:
        settings["shard_size"] = args.shard_size
    shard = None if args.shard is None else parse_shard(args.shard)
    rows = None if args.rows is None else parse_rows(args.rows)
    return JobSettings(**settings, rows=rows, shard=shard, prices=prices)


def _is_terminal(stream: TextIO | None) -> bool:
    return stream is not None and not stream.closed and stream.isatty()


def _option(text: str) -> tuple[str, Any]:
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise ValueError(f"--teacher_option {text}: give NAME=VALUE.")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value  # a text need not be quoted
