"""Whether a trained student gives the same labels whatever computes its attention, and in bfloat16.

    python bench/same_labels.py runs/tiny --attention pallas cudnn --dtype float32 bfloat16

The run's task is decoded greedily over a split with plain attention in float32, then with each setting. It ends with status 1 if one answer
differs in float32, or more than 1 in 200 in bfloat16, or if the student answers all alike, as then nothing is shown. What a dtype has not is left out.
"""

import argparse
import itertools
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import jax.numpy as jnp

from stepdistill_jax.engine.config.gin_flags import OneLineParser
from stepdistill_jax.engine.model.attention import choice
from stepdistill_jax.launching import runs

PLAIN = ("plain", "float32")
# Of all answers, those that may be others than in float32.
MOST_IN_BFLOAT16 = 0.005


def main() -> int:
    parser = OneLineParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument("--split", default="test")
    parser.add_argument("--task", metavar="NAME", help="default: the run's")
    parser.add_argument("--attention", nargs="+", default=["auto"])
    parser.add_argument(
        "--dtype", nargs="+", choices=("float32", "bfloat16"), default=["float32", "bfloat16"]
    )
    parser.add_argument("--config", default="network.T5Config", help="llama.LlamaConfig of a language model")
    parser.add_argument("--head_dim", type=int, default=64, help="of the student (default: %(default)s)")
    parser.add_argument("--data_dir")
    args = parser.parse_args()
    right = answers(args, *PLAIN)
    print(f"{args.run}, {args.split}: {len(right)} answers, {len(set(right))} different ones")
    failed = len(set(right)) < 2
    for attention, dtype in itertools.product(args.attention, args.dtype):
        if (why := nothing_to_compare(attention, dtype, args.head_dim)) is not None:
            print(f"{attention}, {dtype}: left out, {why}")
            continue
        others = num_others(answers(args, attention, dtype), right)
        print(
            f"{attention}, {dtype}: {1 - others / len(right):.2%} are those of plain, float32 ({others} others)"
        )
        failed |= others > (MOST_IN_BFLOAT16 * len(right) if dtype == "bfloat16" else 0)
    return int(failed)


def answers(args: argparse.Namespace, attention: str, dtype: str) -> list[str]:
    """Of all examples, as text."""
    with tempfile.TemporaryDirectory() as folder:
        bindings = [
            f"INFER_OUTPUT_DIR = {folder!r}",
            f"{args.config}.attention = {attention!r}",
            f"{args.config}.dtype = {dtype!r}",
        ]
        files = runs.infer(
            args.run, split=args.split, task=args.task, data_dir=args.data_dir, gin_bindings=bindings
        )
        lines = [line for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    return [str(json.loads(line)["prediction"]) for line in lines]


def nothing_to_compare(attention: str, dtype: str, head_dim: int) -> str | None:
    """Why a setting is no other than plain attention in float32, or none at all; None where it is."""
    if attention == "auto":
        attention, why = choice.explain(dtype=dtype, head_dim=head_dim, float32_logits=False)
        return f"'auto' is 'plain': {why}" if (attention, dtype) == PLAIN else None
    try:
        choice.check_attention(attention, dtype=jnp.dtype(dtype), head_dim=head_dim, float32_logits=False)
    except ValueError as error:
        return str(error)
    return "which is what others are compared with" if (attention, dtype) == PLAIN else None


def num_others(found: Sequence[str], right: Sequence[str]) -> int:
    """How many of them differ."""
    return sum(one != other for one, other in zip(found, right, strict=True))


if __name__ == "__main__":
    sys.exit(main())
