"""How SIGINT and SIGTERM end a running job: gracefully at first, at once if they come again."""

import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import Iterator

from stepdistill_jax.teacher.asking.display import Display
from stepdistill_jax.teacher.asking.in_parallel import Asking


class JobStopped(Exception):
    """The job was stopped by a signal, in good order; `exit_status` is that of a process which the signal ended."""

    def __init__(self, message: str, signal_number: int):
        super().__init__(message)
        self.exit_status = 128 + signal_number


@contextlib.contextmanager
def stopping_signals(asking: Asking, display: Display, stop_seconds: float) -> Iterator[list[signal.Signals]]:
    """While this holds, SIGINT and SIGTERM stop gracefully, and a second one at once. Gives the list of those that came."""
    came: list[signal.Signals] = []

    def on_signal(number: signal.Signals) -> None:
        came.append(number)
        if len(came) > 1:
            display.stop()
            os._exit(128 + number)  # every stored answer is committed
        asking.stop(within_seconds=stop_seconds)
        display.note(
            f"{number.name}: asks nothing more, and waits up to {stop_seconds:g} s for {asking.places.under_way} "
            f"answers under way; once more stops at once."
        )

    if threading.current_thread() is not threading.main_thread():
        yield came
        return
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGINT, signal.SIGTERM)
    for number in numbers:
        loop.add_signal_handler(number, on_signal, number)
    try:
        yield came
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
