"""The processes that a sweep starts: one a run, which end when the sweep does, however it ends."""

import dataclasses
import os
import platform
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from stepdistill_jax.report.sweep.folder import log_file


@dataclasses.dataclass(frozen=True)
class Child:
    """A process that does one run.

    Attributes:
      log: what it prints goes to its end.
      log_begin: bytes that the log had before.
      started: of `time.monotonic`.
    """

    run_id: str
    process: subprocess.Popen
    log: Path
    log_begin: int
    started: float

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    def failure(self) -> str:
        """Why it ended without a result: the last line that it printed."""
        status = self.process.returncode
        lines = self.log.read_bytes()[self.log_begin :].decode("utf-8", "replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "it printed nothing")
        return f"{signal.Signals(-status).name}; {last}" if status < 0 else last


# XLA takes three quarters of a GPU for a process, unless one of these says otherwise; it does not take both.
_MEMORY_SETTINGS = ("XLA_CLIENT_MEM_FRACTION", "XLA_PYTHON_CLIENT_MEM_FRACTION")
_SHARED_MEMORY = 0.9  # of a GPU, for all processes together


def start(arguments: Sequence[str], *, run_id: str, output: Path, jobs: int = 1) -> Child:
    """Starts `stepdistill <arguments>` in a process of its own, which shares compiled steps with the others of the sweep.

    With several `jobs`, each gets its part of a GPU's memory, unless the environment says how much.
    """
    log = log_file(output, run_id)
    log.parent.mkdir(parents=True, exist_ok=True)
    compiled = output / "compiled" / platform.node()
    environment = {
        "JAX_COMPILATION_CACHE_DIR": str(compiled.absolute()),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.3",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        **os.environ,
    }
    if jobs > 1 and not any(name in environment for name in _MEMORY_SETTINGS):
        environment[_MEMORY_SETTINGS[0]] = f"{_SHARED_MEMORY / jobs:.3f}"
    with log.open("ab") as file:
        begin = file.tell()
        process = subprocess.Popen(
            [sys.executable, "-m", "stepdistill_jax", *arguments],
            stdin=subprocess.PIPE,  # its end tells the child of ours
            stdout=file,
            stderr=file,
            env=environment,
            start_new_session=True,  # a terminal's Ctrl-C is ours to pass on
        )
    return Child(run_id, process, log, begin, time.monotonic())


def end_with_parent() -> None:
    """In a child: ends this process at once when the one that started it is gone, as a run survives that anyway.

    Otherwise a sweep that is started again would find it still at work.
    """

    def wait_for_end() -> None:
        while os.read(0, 1):
            pass
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=wait_for_end, daemon=True).start()
