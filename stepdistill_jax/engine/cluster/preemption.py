"""Notices that a run is to end: the step in hand is finished and saved, and the run ends.

SIGTERM is what clusters send; SIGUSR1 is what SLURM sends ahead of time (`#SBATCH --signal=USR1@300`). The exit status is
75, EX_TEMPFAIL of sysexits.h ("try again later"), which no error of Python, of a signal (128 + n) or of ours (2) has: a
scheduler may start the same command again after 75, and after nothing else.

Ctrl-C, SIGINT, is as gentle once steps are taken, with 130 (128 + 2) as status. Before the first step there is nothing to
save, and it ends the run as it does any program. A second one ends it at once, in the middle of a compilation too.
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

from stepdistill_jax.base.visible import visible

EXIT_STATUS = 75
INTERRUPTED_STATUS = 130
_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)


class Preempted(SystemExit):
    """A run has saved and ended because of a notice. Where nothing catches it, the process ends with its `code`."""

    def __init__(self, message: str, status: int = EXIT_STATUS) -> None:
        super().__init__(status)
        self.message = message


def end(message: str, status: int = EXIT_STATUS) -> NoReturn:
    """Says the message, which Python does not say of a SystemExit, and raises it as `Preempted`."""
    print(visible(message), file=sys.stderr, flush=True)
    raise Preempted(message, status)


class PreemptionNotice:
    """Whether a notice has come to any of the run's processes."""

    def __init__(self) -> None:
        self._came: signal.Signals | None = None
        self._interrupts = 0
        self._heard = False
        self._promise = ""

    @property
    def exit_status(self) -> int:
        """Of a run that the notice ends."""
        return INTERRUPTED_STATUS if self._came == signal.SIGINT else EXIT_STATUS

    def begin_steps(self, *, saves: bool) -> None:
        """From here on the run has steps to finish; `saves` says whether it writes checkpoints."""
        self._promise = (
            "the run will save after the step in hand and end"
            if saves
            else "the run will end after the step in hand; it saves no checkpoints"
        )

    def reached(self, step: int) -> bool:
        """True once the run is to end after `step`: the same step in every process, each of which must ask after every step."""
        if jax.process_count() == 1:
            return self._came is not None
        if not jax.config.jax_enable_preemption_service:
            return False
        return multihost_utils.reached_preemption_sync_point(step)

    def _take(self, signum: int, frame: object) -> None:
        """What Python does at a signal, when it comes to do so."""
        if signum == signal.SIGINT and not self._promise:
            raise KeyboardInterrupt
        self._came = self._came or signal.Signals(signum)
        if jax.process_count() > 1:  # to JAX's own handler, which tells the other processes
            os.kill(os.getpid(), signal.SIGTERM)

    def _hear(self, signum: int) -> None:
        """What is said at a signal, and done at the second Ctrl-C: at once, whatever Python is waiting for."""
        number = signal.Signals(signum)
        if number == signal.SIGINT:
            self._interrupts += 1
            if self._interrupts > 1:
                _say("SIGINT again: ended at once.")
                os._exit(INTERRUPTED_STATUS)
        elif self._heard or jax.process_count() > 1:  # clusters send it again
            return
        self._heard = True
        promise = self._promise or "the run ends before its first step"
        _say(f"{number.name}: {promise}{'; once more ends it at once' * (number == signal.SIGINT)}.")


def _say(line: str) -> None:
    os.write(sys.__stderr__.fileno(), f"{line}\n".encode())  # print() may be at work when the signal comes


@contextlib.contextmanager
def watched() -> Iterator[PreemptionNotice]:
    """Within it SIGTERM, SIGUSR1 and SIGINT are notices; afterwards they are what they were.

    In a thread that is not the main one Python takes no signals, so there no notice comes.
    """
    notice = PreemptionNotice()
    if threading.current_thread() is not threading.main_thread():
        yield notice
        return
    # Where processes are several, SIGTERM is JAX's: its handler agrees with the others on a step.
    signals = [s for s in _SIGNALS if s != signal.SIGTERM or jax.process_count() == 1]
    with _heard_at_once(notice, signals):
        before = {s: signal.signal(s, notice._take) for s in signals}
        try:
            yield notice
        finally:
            for number, handler in before.items():
                signal.signal(number, handler if handler is not None else signal.SIG_DFL)


@contextlib.contextmanager
def _heard_at_once(notice: PreemptionNotice, signals: list[signal.Signals]) -> Iterator[None]:
    """Within it a thread hears of signals as they come: Python's handlers wait until a compilation is over."""
    ear, mouth = os.pipe()
    os.set_blocking(mouth, False)  # as set_wakeup_fd wants it

    def listen() -> None:
        with os.fdopen(ear, "rb", buffering=0) as numbers:
            while number := numbers.read(1):
                if number[0] in signals:
                    notice._hear(number[0])

    threading.Thread(target=listen, daemon=True).start()
    before = signal.set_wakeup_fd(mouth, warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(mouth)
