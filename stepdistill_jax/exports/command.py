"""`stepdistill export`: its flags, and the lines that it prints."""

import argparse
from pathlib import Path

from stepdistill_jax.base.data_dir_flag import add_data_dir_flag
from stepdistill_jax.base.no_verify_flag import add_no_verify_flag
from stepdistill_jax.base.visible import visible

EXAMPLES = """\
  stepdistill export runs/tickets --to ctranslate2 --quantization int8 --output tickets_int8
  stepdistill export runs/tickets --to huggingface --output tickets_hf
  stepdistill serve tickets_int8 --port 8080"""


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, metavar="RUN", help="a run's folder (MODEL_DIR)")
    parser.add_argument(
        "--to",
        required=True,
        metavar="FORMAT",
        help="ctranslate2 (served on CPUs), huggingface (transformers), or gguf (llama.cpp's command line)",
    )
    parser.add_argument(
        "--quantization",
        help="of the weights: int8 or float32 for ctranslate2; float32, bfloat16 or float16 for huggingface; float32 or "
        "float16 for gguf (default the first)",
    )
    parser.add_argument("--output", type=Path, required=True, help="a folder that is not there yet")
    parser.add_argument(
        "--step", type=int, help="checkpoint to export (default the best that the run keeps, else the newest)"
    )
    parser.add_argument(
        "--check_texts",
        type=int,
        default=1000,
        help="validation texts that its labels are compared on with the checkpoint's, at most (default 1000)",
    )
    parser.add_argument(
        "--least_agreement",
        type=float,
        default=0.9,
        help="share of the same labels below which nothing is written (default 0.9)",
    )
    add_no_verify_flag(parser)
    add_data_dir_flag(parser)


def run(args: argparse.Namespace) -> None:
    from stepdistill_jax.exports.export import export
    from stepdistill_jax.exports.model_card import FLOAT16
    from stepdistill_jax.prediction.exported import GGUF, HUGGINGFACE

    exported = export(
        args.run,
        args.output,
        to=args.to,
        quantization=args.quantization,
        step=args.step,
        check_texts=args.check_texts,
        least_agreement=args.least_agreement,
        data_dir=args.data_dir,
        verify=not args.no_verify,
    )
    lines = [f"{exported.folder}: {args.to}, {exported.quantization}, {exported.num_bytes / 1e6:,.1f} MB"]
    if exported.check:
        lines.append(f"checked: {exported.check.text}")
    elif args.to == GGUF:
        lines.append(
            "tensors and settings read back as written; labels were not compared, as llama.cpp computes them"
        )
    else:
        lines.append(
            "NOT checked: neither the run nor the data folder has texts of its validation split; `stepdistill eval` "
            "where the data are writes them into the run"
        )
    if args.to == HUGGINGFACE and exported.quantization == "float16":
        lines.append(FLOAT16)
    if args.to != GGUF:
        lines += ["serve it:", f"  stepdistill serve {exported.folder} --port 8080"]
    for line in lines:
        print(visible(line))
