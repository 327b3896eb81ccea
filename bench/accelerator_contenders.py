"""Who takes part in bench/accelerator.py: one contender for each combination of its flags, and what starts its process."""

import argparse
import ast
import dataclasses
import itertools
import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import accelerator_ours
import contender
from accelerator_step import Settings

from stepdistill_jax.base.messages import nearest
from stepdistill_jax.engine.model import network
from stepdistill_jax.engine.step.fitting import check_microbatches

HERE = Path(__file__).resolve().parent
WHO = {"ours": "ours", "t5x": "T5X", "huggingface": "Hugging Face"}
SCRIPTS = {"ours": "accelerator_ours.py", "t5x": "accelerator_t5x.py", "huggingface": "accelerator_hf.py"}
ENGINES_CHOICE = "auto"  # of --scan, --remat: nothing is said, and the engine decides
_SCAN = {"yes": True, "no": False}
# T5Config's fields that have a flag of their own, or follow from --sizes.
_OWN_FLAGS = {
    "attention": "--attention",
    "dropout_rate": "--dropout",
    "dtype": "--dtype",
    "remat_policy": "--remat",
    "scan_layers": "--scan",
    **dict.fromkeys(contender.SIZES["base"], "--sizes"),
    "num_encoder_layers": "--sizes",
    "num_decoder_layers": "--sizes",
    "mlp_activations": "--sizes",
}


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Flags of several values make a contender of each combination."""
    several: dict[str, Any] = {"nargs": "+", "metavar": "VALUE"}
    defaults = {field.name: field.default for field in dataclasses.fields(network.T5Config)}
    parser.add_argument("--who", nargs="+", choices=WHO, default=["ours"])
    parser.add_argument("--sizes", nargs="+", choices=contender.SIZES, default=["base"], help="T5 v1.1's")
    parser.add_argument(
        "--attention",
        **several,
        default=[defaults["attention"]],
        help="ours: T5Config.attention (default: %(default)s)",
    )
    parser.add_argument("--dropout", type=float, **several, default=[contender.DROPOUT_RATE])
    parser.add_argument("--dtype", **several, default=["bfloat16"], help="bfloat16 or float32")
    parser.add_argument("--scan", **several, default=[ENGINES_CHOICE], help="ours: yes, no or auto")
    parser.add_argument(
        "--remat", **several, default=[ENGINES_CHOICE], help="ours: T5Config.remat_policy, or auto"
    )
    parser.add_argument(
        "--loss_block_tokens",
        type=int,
        **several,
        default=[None],
        help="ours: 0 makes all logits at once (default: the engine's)",
    )
    parser.add_argument("--microbatches", type=int, **several, default=[1], help="ours")
    parser.add_argument(
        "--xla_flags",
        action="append",
        default=[],
        metavar="FLAGS",
        help="ours: measured with these beside the same without (--xla_flags=--xla_…); may be given again",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="ours: a further field of T5Config; may be given again",
    )
    parser.add_argument("--rows", type=int, default=16, help="packed rows of a batch")
    parser.add_argument("--inputs", type=int, default=1024, help="tokens of a row")
    parser.add_argument("--targets", type=int, default=512, help="tokens of a row")
    parser.add_argument("--padded_examples", type=int, default=256, help="Hugging Face's batch")
    parser.add_argument("--steps", type=int, default=8, help="timed one by one, and again in a row")
    parser.add_argument("--labels", type=int, default=1024, help="to decode; 0 for none")
    parser.add_argument("--label_batch", type=int, default=128)
    parser.add_argument("--t5x_python", default=os.environ.get("T5X_PYTHON"))
    parser.add_argument("--t5x_source", default=os.environ.get("T5X_SOURCE"))
    parser.add_argument("--hf_python", default=os.environ.get("HF_PYTHON"))


def contenders(args: argparse.Namespace, examples: Path) -> list[Settings]:
    """All of them, in the order of their turns.

    Raises:
      ValueError: if a flag is wrong, or one of ours is refused by the engine; nothing has been started.
    """
    _check_numbers(args)
    _check_pythons(args)
    made = list(
        itertools.chain.from_iterable(
            _of_ours(args, size, examples) if who == "ours" else _of_another(args, who, size, examples)
            for size in args.sizes
            for who in args.who
        )
    )
    for settings in made:
        if settings.who == "ours":
            _check_ours(settings)
    names = [settings.name for settings in made]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"{repeated[0]!r} is asked for twice; give each value of a flag once.")
    return made


def command(settings: Settings, args: argparse.Namespace) -> tuple[list[str], str]:
    """(what starts its process, its PYTHONPATH); the settings are the last argument."""
    python, path = {
        "ours": (sys.executable, str(HERE.parent)),
        "t5x": (args.t5x_python, args.t5x_source),
        "huggingface": (args.hf_python, ""),
    }[settings.who]
    return [python, str(HERE / SCRIPTS[settings.who])], path


def folder_name(name: str) -> str:
    """A contender's name as that of a folder."""
    return re.sub(r"[^\w.]+", "_", name).strip("_")


def _of_ours(args: argparse.Namespace, size: str, examples: Path) -> Iterator[Settings]:
    extra = _further_fields(args.set)
    for attention, dropout, dtype, scan, remat, block, microbatches, xla_flags in itertools.product(
        args.attention, args.dropout, args.dtype, args.scan, args.remat, args.loss_block_tokens, args.microbatches,
        ["", *args.xla_flags],
    ):  # fmt: skip
        fields: dict[str, Any] = {"attention": attention, **extra}
        words = [attention, *_shared_words(args, dropout, dtype)]
        if scan != ENGINES_CHOICE:
            if scan not in _SCAN:
                raise ValueError(f"--scan={scan}; use yes, no or auto.")
            fields["scan_layers"] = _SCAN[scan]
            words.append("loop" if _SCAN[scan] else "unrolled")
        if remat != ENGINES_CHOICE:
            fields["remat_policy"] = remat
            words.append(f"remat {remat}")
        if block is not None:
            words.append(f"blocks of {block}" if block else "all logits")
        if microbatches != 1:
            words.append(f"{microbatches} microbatches")
        if xla_flags:
            words.append(xla_flags.replace("--", ""))
        yield Settings(
            name=_name("ours", size, [*words, *args.set]),
            who="ours",
            network=fields,
            model={} if block is None else {"loss_block_tokens": block or None},
            num_microbatches=None if microbatches == 1 else microbatches,
            xla_flags=xla_flags,
            **_shared(args, size, examples, dropout, dtype),
        )


def _of_another(args: argparse.Namespace, who: str, size: str, examples: Path) -> Iterator[Settings]:
    for dropout, dtype in itertools.product(args.dropout, args.dtype):
        yield Settings(
            name=_name(who, size, _shared_words(args, dropout, dtype)),
            who=who,
            **_shared(args, size, examples, dropout, dtype),
        )


def _shared(
    args: argparse.Namespace, size: str, examples: Path, dropout: float, dtype: str
) -> dict[str, Any]:
    names = ("rows", "inputs", "targets", "padded_examples", "steps", "labels", "label_batch")
    return {
        "size": size,
        "examples": str(examples.resolve()),
        "dropout_rate": dropout,
        "dtype": dtype,
        **{name: getattr(args, name) for name in names},
    }


def _shared_words(args: argparse.Namespace, dropout: float, dtype: str) -> list[str]:
    words = [f"dropout {dropout:g}"]
    return [*words, dtype] if dtype != "bfloat16" or len(args.dtype) > 1 else words


def _name(who: str, size: str, words: list[str]) -> str:
    return f"{WHO[who]} {size}: {', '.join(words)}"


def _further_fields(assignments: list[str]) -> dict[str, Any]:
    """What --set says, values as Python writes them, or else as text."""
    known = {field.name for field in dataclasses.fields(network.T5Config)}
    fields: dict[str, Any] = {}
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if not equals:
            raise ValueError(f"--set {assignment}: use NAME=VALUE, such as logits_dot_in_fp32=False.")
        if name in _OWN_FLAGS:
            raise ValueError(f"--set {assignment}: use {_OWN_FLAGS[name]}.")
        if name not in known:
            raise ValueError(f"--set {assignment}: T5Config has no {name!r}{nearest(name, known)}.")
        try:
            fields[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            fields[name] = value
    return fields


def _check_ours(settings: Settings) -> None:
    try:
        config = accelerator_ours.t5_config(
            settings.size, dropout_rate=settings.dropout_rate, dtype=settings.dtype, **settings.network
        )
        accelerator_ours.t5_model(config, **settings.model)
        check_microbatches(settings.rows, settings.num_microbatches, 1)
    except ValueError as error:
        raise ValueError(f"{settings.name}: {error}") from error


def _check_numbers(args: argparse.Namespace) -> None:
    lowest: Mapping[str, int] = {"rows": 1, "inputs": 2, "targets": 2, "padded_examples": 2, "steps": 1, "label_batch": 1, "labels": 0}  # fmt: skip
    for name, least in lowest.items():
        if getattr(args, name) < least:
            raise ValueError(f"--{name}={getattr(args, name)}; use {least} or more.")
    if args.labels % args.label_batch:
        raise ValueError(
            f"--labels={args.labels} are no whole batches of --label_batch={args.label_batch}; use a multiple."
        )
    for microbatches in args.microbatches:
        if microbatches < 1:
            raise ValueError(f"--microbatches={microbatches}; use 1 or more.")
    for dropout in args.dropout:
        if not 0 <= dropout < 1:
            raise ValueError(f"--dropout={dropout:g}; it must lie in [0, 1).")
    for dtype in args.dtype:
        if dtype not in ("bfloat16", "float32"):
            raise ValueError(f"--dtype={dtype}; use bfloat16 or float32.")


def _check_pythons(args: argparse.Namespace) -> None:
    if "t5x" in args.who and not (args.t5x_source and args.t5x_python):
        raise ValueError(
            "--who t5x: set T5X_SOURCE to its source tree (those of its git dependencies behind it, after colons), and "
            "T5X_PYTHON to a Python with its packages."
        )
    if "huggingface" in args.who and not args.hf_python:
        raise ValueError("--who huggingface: set HF_PYTHON to a Python with torch and transformers.")
    if "t5x" in args.who:
        for folder in args.t5x_source.split(":"):
            if not Path(folder).is_dir():
                raise ValueError(f"T5X_SOURCE: {folder} is no folder.")
    for who, python in (("t5x", args.t5x_python), ("huggingface", args.hf_python)):
        if who in args.who and shutil.which(python) is None:
            raise ValueError(f"--who {who}: {python} is no program; name its Python.")
