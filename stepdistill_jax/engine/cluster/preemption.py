"""Notices that a machine is about to be taken away: the step in hand is finished and saved, and the run ends.

SIGTERM is what clusters send; SIGUSR1 is what SLURM sends ahead of time (`#SBATCH --signal=USR1@300`). The exit status is
75, EX_TEMPFAIL of sysexits.h ("try again later"), which no error of Python, of a signal (128 + n) or of ours (2) has: a
scheduler may start the same command again after 75, and after nothing else.
"""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from typing import NoReturn

import jax
from jax.experimental import multihost_utils

EXIT_STATUS = 75
_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


class Preempted(SystemExit):
    """A run has saved and ended because of a notice. Where nothing catches it, the process ends with EXIT_STATUS."""

    def __init__(self, message: str) -> None:
        super().__init__(EXIT_STATUS)
        self.message = message


def end(message: str) -> NoReturn:
    """Says the message, which Python does not say of a SystemExit, and raises it as `Preempted`."""
    print(message, file=sys.stderr, flush=True)
    raise Preempted(message)


class PreemptionNotice:
    """Whether a notice has come to any of the run's processes."""

    def __init__(self) -> None:
        self._came = False

    def reached(self, step: int) -> bool:
        """True once the run is to end after `step`: the same step in every process, each of which must ask after every step."""
        if jax.process_count() == 1:
            return self._came
        if not jax.config.jax_enable_preemption_service:
            return False
        return multihost_utils.reached_preemption_sync_point(step)

    def _take(self, signum: int, frame: object) -> None:
        if jax.process_count() > 1:  # to JAX's own handler, which tells the other processes
            os.kill(os.getpid(), signal.SIGTERM)
            return
        if not self._came:
            name = signal.Signals(signum).name
            # print() may be at work when the signal comes.
            os.write(
                sys.__stderr__.fileno(), f"{name}: the run will save after this step and end.\n".encode()
            )
        self._came = True


@contextlib.contextmanager
def watched() -> Iterator[PreemptionNotice]:
    """Within it SIGTERM and SIGUSR1 are notices; afterwards they are what they were.

    In a thread that is not the main one Python takes no signals, so there no notice comes.
    """
    notice = PreemptionNotice()
    if threading.current_thread() is not threading.main_thread():
        yield notice
        return
    # Where processes are several, SIGTERM is JAX's: its handler agrees with the others on a step.
    signals = [s for s in _SIGNALS if s != signal.SIGTERM or jax.process_count() == 1]
    before = {s: signal.signal(s, notice._take) for s in signals}
    try:
        yield notice
    finally:
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
