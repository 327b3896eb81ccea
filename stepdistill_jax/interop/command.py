"""`stepdistill convert`: its flags, and the lines that it prints."""

import argparse
from pathlib import Path

EXAMPLES = """\
  stepdistill convert ~/models/t5-v1_1-base checkpoints/t5_1_1_base
  stepdistill convert hf://google/flan-t5-small checkpoints/flan_t5_small --step 1198000
  stepdistill convert runs/svamp/checkpoint_1010000 exported/svamp --dtype bfloat16"""


def add_flags(parser: argparse.ArgumentParser) -> None:
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


def run(args: argparse.Namespace) -> None:
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
