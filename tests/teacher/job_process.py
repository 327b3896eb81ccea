"""`stepdistill` commands as processes of their own, without importing TensorFlow for each.

A parent imports everything and forks a child for every line of arguments (JSON) on its standard input; it answers with the
child's process id, and, once that has ended, its exit status (negative: the signal that ended it).
"""

import json
import os
import sys

from stepdistill_jax import cli
from stepdistill_jax.datasets import preparation  # noqa: F401
from stepdistill_jax.launching import task_modules
from stepdistill_jax.teacher import job  # noqa: F401
from stepdistill_jax.teacher.backends import openai_teacher  # noqa: F401


def main() -> None:
    task_modules.load_tasks()
    import openai  # noqa: F401
    import tensorflow_datasets  # noqa: F401

    print("ready", flush=True)
    for line in sys.stdin:
        command = json.loads(line)
        if (child := os.fork()) == 0:
            log = os.open(command["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(log, 1)
            os.dup2(log, 2)
            status = cli.main(command["arguments"])
            sys.stdout.flush()
            os._exit(status)
        print(child, flush=True)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
