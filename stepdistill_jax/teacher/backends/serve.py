"""`stepdistill teach serve smollm2`: the embedded model as a server of its own, to be asked by URL."""

import argparse
import signal

from stepdistill_jax.teacher.backends import smollm2

EXAMPLES = """\
  stepdistill teach serve smollm2
  stepdistill teach serve smollm2 --port 8123 --threads 2 --slots 2"""


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="smollm2")
    parser.add_argument(
        "--port", type=int, default=8080, help="on 127.0.0.1 (default 8080; 0 takes a free one)"
    )
    parser.add_argument("--threads", type=int, default=1, help="of computation (default 1)")
    parser.add_argument("--slots", type=int, default=1, help="answers made at once (default 1)")
    parser.add_argument(
        "--context", type=int, default=2048, help="tokens of a prompt with its answer (default 2048)"
    )


def run(args: argparse.Namespace) -> None:
    """Serves until SIGINT or SIGTERM.

    Raises:
      ValueError: for another model, wrong numbers, and a server that doesn't start.
    """
    if args.model != "smollm2":
        raise ValueError(
            f"teach serve {args.model}: only smollm2 is embedded; serve others with vLLM, llama.cpp, …."
        )
    if not 0 <= args.port < 65536:
        raise ValueError(f"--port={args.port}; use 0 to 65535.")
    options = smollm2.ServerOptions(threads=args.threads, slots=args.slots, context=args.context)
    # The server's process ends with this one's. SIGTERM ends it as Ctrl-C does, also while it starts.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with smollm2.running(options, port=args.port) as server:
            print(
                f"{smollm2.MODEL} answers at {server.url}; ask it by --teacher openai:{smollm2.MODEL} --api completions "
                f"--base_url {server.url}. Ctrl-C ends it.",
                flush=True,
            )
            server.wait()
            raise ValueError(f"The server of smollm2 at {server.url} has ended by itself.")
    except KeyboardInterrupt:
        return
