"""Training steps and labels of T5 v1.1 on one device, a GPU above all: ours in all its settings, T5X's and Hugging Face's.

    python bench/accelerator.py --sizes base large --attention auto plain cudnn --examples examples.json --out results.jsonl

Each combination of flags is a contender, a process of its own. They compile side by side; then they are measured in turns, while
nothing else runs; tokens/s and MFU are of steps in a row. Ours needs JAX, Flax, Optax, CLU, jaxtyping and this clone, and no
TensorFlow: token ids come from a file that --write_examples makes where the data is, or are made up. T5X takes part with --who t5x
where $T5X_SOURCE names its source tree (more trees, of its git dependencies, after colons) and $T5X_PYTHON a Python with its
packages; Hugging Face with --who huggingface where $HF_PYTHON names a Python with torch and transformers.

It ends with status 1 if a contender failed, or if losses of ours differ that should not; the others are measured all the same.
"""

import argparse
import contextlib
import dataclasses
import datetime
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # a clone is enough: nothing has to be installed

import accelerator_contenders
import accelerator_costs
import accelerator_examples
import accelerator_table
import contender
import jax
from accelerator_step import NUM_PROFILED_STEPS, Settings
from accelerator_turns import Turns, environment
from compare import Child

from stepdistill_jax.base.messages import say_once
from stepdistill_jax.base.usable_cpus import usable_cpus
from stepdistill_jax.base.version import __version__
from stepdistill_jax.engine.config.gin_flags import OneLineParser


def main() -> None:
    parser = OneLineParser(description=__doc__.splitlines()[0])
    accelerator_contenders.add_flags(parser)
    _add_flags(parser)
    args = parser.parse_args()
    signal.signal(
        signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM)
    )  # as `timeout` ends it: a table all the same
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        try:
            _check(args)
            if args.write_examples:
                print(accelerator_examples.write(args.write_examples, data_dir=args.data_dir, num_examples=args.num_examples))  # fmt: skip
                return
            examples = args.examples or Path(folder) / "examples.json"
            contenders = accelerator_contenders.contenders(args, examples)
            _prepare_examples(args, examples)
            out = stack.enter_context(_opened(args.out))
        except ValueError as error:
            parser.error(str(error))
        sys.exit(run(args, contenders, out))


def _add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--examples", type=Path, help="token ids (default: made-up ones)")
    parser.add_argument("--write_examples", type=Path, metavar="FILE", help="write them, and do nothing else")
    parser.add_argument("--data_dir", type=Path, help="of --write_examples (default ./data)")
    parser.add_argument("--num_examples", type=int, default=1024, help="of --write_examples, of each kind")
    parser.add_argument(
        "--jobs",
        type=int,
        default=max(1, usable_cpus() // 4),
        help="that compile side by side (default: %(default)s); 1 lets XLA time a GPU's kernels undisturbed",
    )
    parser.add_argument("--prepare_seconds", type=float, help="whoever is not ready by then is left out")
    parser.add_argument("--turn_seconds", type=float, help="of each contender's turn")
    parser.add_argument("--profile", type=Path, metavar="DIR", help="for traces; ours get a table of kernels")
    parser.add_argument(
        "--out", type=Path, help="file that a JSON object a line is added to, as results come"
    )


def _check(args: argparse.Namespace) -> None:
    for name in ("jobs", "num_examples"):
        if getattr(args, name) < 1:
            raise ValueError(f"--{name}={getattr(args, name)}; use 1 or more.")
    for name in ("prepare_seconds", "turn_seconds"):
        if getattr(args, name) is not None and not getattr(args, name) > 0:
            raise ValueError(f"--{name}={getattr(args, name):g}; use more than 0.")


def _prepare_examples(args: argparse.Namespace, path: Path) -> None:
    """Makes them up where no file is named, and checks them.

    Raises:
      ValueError: if contenders can't be given them.
    """
    lengths, vocab_size = (args.inputs, args.targets), contender.SIZES[args.sizes[0]]["vocab_size"]
    if args.examples is None:
        count = accelerator_examples.enough(
            rows=args.rows, inputs=args.inputs, labels=args.labels, padded_examples=args.padded_examples
        )
        accelerator_examples.made_up(path, num_examples=count, lengths=lengths, vocab_size=vocab_size)
    accelerator_examples.check(
        path,
        lengths=lengths,
        labels=args.labels,
        padded_examples=args.padded_examples if "huggingface" in args.who else 0,
        vocab_size=vocab_size,
    )


@contextlib.contextmanager
def _opened(path: Path | None) -> Iterator[TextIO | None]:
    if path is None:
        yield None
        return
    try:
        file = path.open("a", encoding="utf-8")
    except OSError as error:
        raise ValueError(f"--out={path}: {error.strerror}.") from error
    with file:
        yield file


def run(args: argparse.Namespace, contenders: Sequence[Settings], out: TextIO | None) -> int:
    """Measures them and prints what came out; returns the exit status.

    Args:
      out: gets a JSON object a line; None for none.
    """
    jax.config.update("jax_platforms", "cpu")  # this process only counts; the device is the contenders'
    _write(out, event="run", **_described(args))
    results: dict[str, dict[str, Any]] = {}
    differences: list[str] = []

    def start(settings: Settings) -> Child:
        command, python_path = accelerator_contenders.command(settings, args)
        arguments = [*command, json.dumps(dataclasses.asdict(settings))]
        return Child(
            settings.name, arguments, python_path=python_path, environment=environment(settings.xla_flags)
        )

    limits = {"prepare_seconds": args.prepare_seconds, "turn_seconds": args.turn_seconds}
    try:
        with Turns(contenders, start, jobs=args.jobs, **limits) as turns:
            turns.prepare(_say)
            for settings in contenders:
                result = turns.measure(settings, args.profile)
                results[settings.name] = _with_mfu(settings, result)
                _write(out, event="result", contender=dataclasses.asdict(settings), **result)
                _say(f"{settings.name}: {result.get('error') or 'measured'}")
    finally:  # Ctrl-C or the end of a lease: what there is by then
        measured = [settings for settings in contenders if settings.name in results]
        differences = accelerator_table.loss_differences(measured, results)
        for line in differences:
            _write(out, event="losses", line=line)
        print(report(args, results, differences), flush=True)
    return int(bool(differences) or any("error" in result for result in results.values()))


def _with_mfu(settings: Settings, result: dict[str, Any]) -> dict[str, Any]:
    """The result, to which its MFU is added where the device's peak rate is known."""
    if "piped_ms" in result:
        kind = result["device_kind"]
        result["mfu"] = accelerator_costs.mfu(
            kind, settings.size, result.pop("forwards"), result["piped_ms"] / 1e3
        )
        if result["mfu"] is None:
            say_once(
                f"No MFU: the peak rate of {kind!r} is not in stepdistill_jax/engine/hardware/topologies.py."
            )
    return result


def report(args: argparse.Namespace, results: dict[str, dict[str, Any]], differences: Sequence[str]) -> str:
    """All that is printed at the end."""
    said = {
        name: sorted({of[name] for of in results.values() if name in of})
        for name in ("device_kind", "versions")
    }
    source = args.examples or "made up, uniform lengths of " + ", ".join(
        f"{low} to {high} ({kind})" for kind, (low, high) in accelerator_examples.MADE_UP_LENGTHS.items()
    )
    lines = [
        f"{', '.join(said['device_kind']) or 'nothing measured'}; {args.rows} rows of {args.inputs:,} and {args.targets:,} tokens; token ids: {source}; "
        f"{args.labels:,} labels in batches of {args.label_batch}; {args.jobs} compiled side by side; {', '.join([f'stepdistill-jax {__version__}', *said['versions']])}",
        "",
        accelerator_table.results_table(results),
        "",
        *accelerator_table.remarks(results),
    ]
    for name, result in results.items():
        if "kernels" in result:
            lines += [
                "",
                f"{name}: kernels, {result['where']}, mean of {NUM_PROFILED_STEPS} steps",
                "",
                accelerator_table.kernels_table(result["kernels"], result["total_ms"]),
            ]
    return "\n".join([*lines, *([""] if differences else []), *differences])


def _described(args: argparse.Namespace) -> dict[str, Any]:
    flags = {name: str(value) if isinstance(value, Path) else value for name, value in vars(args).items()}
    return {
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "version": __version__,
        "commit": _commit(),
        "flags": flags,
    }


def _commit() -> str | None:
    """HEAD of this clone, if it is one and git is there."""
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _write(out: TextIO | None, **values: Any) -> None:
    if out is not None:
        out.write(json.dumps(values) + "\n")
        out.flush()
        os.fsync(out.fileno())


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
