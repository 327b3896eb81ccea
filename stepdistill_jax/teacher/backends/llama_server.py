"""llama.cpp's OpenAI-compatible server in a process of its own: `python -P llama_server.py MODEL.gguf --port 8080`.

Run as a file, not as a module, so that nothing of the package is imported: the process holds xllamacpp and the model only.
It ends when its standard input does, so it never outlives the job that started it, even one that was killed.
"""

import argparse
import json
import os
import signal
import sys
import threading


def main() -> int:
    """Serves until standard input ends, or SIGINT or SIGTERM comes. Prints {"url": …} once it answers, or {"error": …}."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--alias", default="model")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--slots", type=int, default=1)
    parser.add_argument("--context", type=int, default=2048)
    parser.add_argument("--foreground", action="store_true")
    args = parser.parse_args()
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")  # llama.cpp writes its log to 1 and 2
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    try:
        server = _start(args)
    except Exception as error:  # whatever the binding raises, the parent is to say it
        print(json.dumps({"error": f"{type(error).__name__}: {error}"}), file=out, flush=True)
        return 1
    print(json.dumps({"url": f"{server.listening_address}/v1"}), file=out, flush=True)
    done = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: done.set())
    if not args.foreground:
        threading.Thread(target=lambda: (sys.stdin.buffer.read(), done.set()), daemon=True).start()
    while not done.wait(timeout=1.0):  # with a timeout, so that signals are seen
        pass
    # The server's own threads may be at work still; nothing of theirs is worth waiting for.
    os._exit(0)


def _start(args: argparse.Namespace):
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = args.model
    params.model_alias = {args.alias} if not isinstance(params.model_alias, str) else args.alias
    params.port = args.port
    if hasattr(params, "hostnames"):
        params.hostnames = [args.host]
    else:
        params.hostname = args.host
    params.n_parallel = args.slots
    params.n_ctx = args.context * args.slots
    params.n_gpu_layers = 0
    params.n_threads_http = args.slots + 2
    params.cpuparams.n_threads = args.threads
    params.cpuparams_batch.n_threads = args.threads
    return xllamacpp.Server(params)


if __name__ == "__main__":
    sys.exit(main())
