"""Starts training runs quickly: everything is imported once, and each run is a fork of this process.

Reads a JSON object a line, {"argv": [flags], "log": file}, starts t5x/train.py's work with these flags and answers the process's
id; {"wait": id} answers its exit status (negative: the signal that ended it).
"""

import json
import os
import sys

import seqio  # noqa: F401
import tensorflow_datasets  # noqa: F401

from stepdistill_jax.engine import train  # noqa: F401
from stepdistill_jax.launching import launch, task_modules


def start(argv: list[str], log: str) -> int:
    process = os.fork()
    if process:
        return process
    status = 1
    try:
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(output, 1)
        os.dup2(output, 2)
        launch.main("train", argv)
        status = 0
    except SystemExit as exit_:
        status = exit_.code if isinstance(exit_.code, int) else 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


task_modules.load_tasks()
for line in sys.stdin:
    request = json.loads(line)
    if "wait" in request:
        answer = os.waitstatus_to_exitcode(os.waitpid(request["wait"], 0)[1])
    else:
        answer = start(request["argv"], request["log"])
    print(json.dumps(answer), flush=True)
