"""`stepdistill serve`: its flags and its call."""

import argparse
import dataclasses
import sys
from pathlib import Path

from stepdistill_jax.base.no_verify_flag import add_no_verify_flag
from stepdistill_jax.base.usable_cpus import limit_thread_pools, usable_cpus
from stepdistill_jax.serving.limits import Limits

EXAMPLES = """\
  stepdistill serve runs/tickets --port 8080
  stepdistill serve tickets_int8 --port 8080 --host 0.0.0.0        # an export; from other machines too
  curl -s http://127.0.0.1:8080/predict -d '{"text": "The printer on floor 3 is on fire."}'"""
_HELP = {
    "batch_rows": "texts that the model is asked at once, at most",
    "batch_tokens": "the same in tokens, padding included",
    "max_wait_ms": "how long a text waits for others while the model is idle",
    "queue_rows": "texts that wait, at most; beyond it requests get 429",
    "request_rows": "texts of one request, at most",
    "body_bytes": "of one request, at most",
    "read_seconds": "within which a request's body must have come",
    "deadline_seconds": "within which a request is answered, or given up with 503",
    "grace_seconds": "within which requests that are here are answered once the server is told to stop",
    "stalled_seconds": "of one batch, after which /healthz says 503",
}


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "path", type=Path, metavar="PATH", help="a run's folder, or an export of `stepdistill export`"
    )
    parser.add_argument("--port", type=int, default=8080, help="0 takes a free one (default 8080)")
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen at (default 127.0.0.1: this machine alone)"
    )
    parser.add_argument(
        "--step",
        type=int,
        help="a run's checkpoint to serve (default the best that the run keeps, else the newest)",
    )
    parser.add_argument(
        "--threads", type=int, help="of computation (default: the CPUs that this process may use)"
    )
    parser.add_argument(
        "--no_warm_up",
        action="store_true",
        help="be ready at once; the first requests then wait for compilation",
    )
    add_no_verify_flag(parser)
    for field in dataclasses.fields(Limits):
        parser.add_argument(
            f"--{field.name}",
            type=field.type,
            default=field.default,
            help=f"{_HELP[field.name]} (default {field.default:,})",
        )


def run(args: argparse.Namespace) -> int:
    """Serves until SIGTERM or Ctrl-C.

    Raises:
      ValueError, OSError: for a wrong flag, a port in use, a folder that is no student.
    """
    if not 0 <= args.port < 65536:
        raise ValueError(f"--port={args.port}; use 0 to 65535.")
    if args.threads is not None and args.threads < 1:
        raise ValueError(f"--threads={args.threads}; use 1 or more.")
    limits = Limits(**{field.name: getattr(args, field.name) for field in dataclasses.fields(Limits)})
    num_threads = args.threads or usable_cpus()
    limit_thread_pools(num_threads)  # before what computes is loaded
    print(f"{num_threads} threads of computation", file=sys.stderr, flush=True)

    from stepdistill_jax.serving.server import serve

    def load():
        from stepdistill_jax.prediction.predictor import Predictor

        return Predictor(
            args.path, step=args.step, batch_tokens=limits.batch_tokens, verify=not args.no_verify
        )

    return serve(load, host=args.host, port=args.port, limits=limits, warm_up=not args.no_warm_up)
