"""Training runs in processes of their own that start quickly: each is a fork of `run_server.py`."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent


class Runs:
    """Starts runs with the same flags, and waits for them."""

    def __init__(self, server: subprocess.Popen, flags: list[str]) -> None:
        self._server, self._flags = server, flags

    def _ask(self, request: dict) -> int:
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        return json.loads(self._server.stdout.readline())

    def start(self, folder: Path, log: Path | None = None) -> int:
        """The id of a process that trains in `folder`; what it prints goes to `log`, by default <folder>.log."""
        argv = [*self._flags, f"--gin_bindings=MODEL_DIR = {str(folder)!r}"]
        return self._ask({"argv": argv, "log": str(log or folder.with_suffix(".log"))})

    def wait(self, process: int) -> int:
        """Its exit status; negative: the signal that ended it."""
        return self._ask({"wait": process})


@contextlib.contextmanager
def server(flags: list[str]) -> Iterator[Runs]:
    """Runs of dsbs_t5_tiny.gin with these flags; the server ends with the block."""
    command = [sys.executable, str(HERE / "run_server.py")]
    environment = {**os.environ, "PYTHONPATH": str(HERE.parents[1])}
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=HERE.parents[1],
    ) as process:
        yield Runs(process, ["--gin_file=gin/dsbs_t5_tiny.gin", *flags])
        process.stdin.close()
