"""A server's life: it listens at once, loads, is ready, and on SIGTERM or SIGINT answers what it has taken and ends."""

import asyncio
import concurrent.futures
import contextlib
import errno
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable

from aiohttp import web

from stepdistill_jax.base.visible import visible_line
from stepdistill_jax.serving.application import Service
from stepdistill_jax.serving.batching import Predictor
from stepdistill_jax.serving.limits import Limits

_QUIET_SECONDS, _POLL_SECONDS = 0.25, 0.01
_KEEPALIVE_SECONDS = 75.0  # also within which a new connection's headers have come


def serve(
    load: Callable[[], Predictor], *, host: str, port: int, limits: Limits, warm_up: bool = True
) -> int:
    """Serves until SIGTERM or SIGINT; returns the exit status: 0, or 1 if the grace time ended before the work did.

    Args:
      load: makes the predictor; it is called in a thread, once the port is bound.
      port: 0 takes a free one.
      warm_up: whether the predictor computes its shapes once before the server says that it is ready.

    Raises:
      OSError: if the address cannot be bound; one line that names it.
      Exception: what `load` raises.
    """
    life = _Life(load, _bind(host, port), limits, warm_up)
    status = asyncio.run(life.run())
    if life.is_at_work:
        # A thread is still in the model; the interpreter would wait for it, or be torn down under it.
        sys.stdout.flush()
        os._exit(status)
    return status


def _say(line: str) -> None:
    with contextlib.suppress(OSError):  # whoever read the log is gone, or its disk is full: serving goes on
        print(f"{time.strftime('%H:%M:%S')} {visible_line(line)}", file=sys.stderr, flush=True)


class _Lines(logging.Handler):
    """What aiohttp logs, mostly of clients that send no HTTP: a line each, without a traceback."""

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        _say(f"{record.getMessage()}{f': {type(error).__name__}: {error!s:.200}' if error else ''}")


def _one_line_logger() -> logging.Logger:
    logger = logging.Logger("http", logging.INFO)
    logger.addHandler(_Lines())
    return logger


def _bind(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except socket.gaierror as error:
        raise OSError(f"--host={host}: {error.strerror}; name an address of this machine.") from error
    listening = socket.socket(family, kind, protocol)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen()  # until somebody listens, several may be bound
    except OSError as error:
        listening.close()
        mend = {
            errno.EADDRINUSE: "is in use; stop what listens there, or give another --port (0 takes a free one)",
            errno.EACCES: "may not be bound; give a --port from 1024 on",
            errno.EADDRNOTAVAIL: "is no address of this machine; give another --host",
        }.get(error.errno, f"cannot be bound ({error.strerror})")
        raise OSError(f"{_address(host, port)} {mend}.") from error
    return listening


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class _Life:
    def __init__(
        self, load: Callable[[], Predictor], listening: socket.socket, limits: Limits, warm_up: bool
    ) -> None:
        self._load, self._listening, self._limits, self._warm_up = load, listening, limits, warm_up
        self._service = Service(limits, report=_say)
        self._loader = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="loading")
        self._is_loading = False

    @property
    def is_at_work(self) -> bool:
        """Whether a thread is still loading or computing."""
        return self._is_loading or self._service.is_computing

    async def run(self) -> int:
        """Returns serve's exit status."""
        stop = self._on_signals()
        runner = web.AppRunner(
            self._service.application(),
            handler_cancellation=True,  # a client that is gone leaves the queue
            access_log=None,
            logger=_one_line_logger(),
            keepalive_timeout=_KEEPALIVE_SECONDS,
            shutdown_timeout=_QUIET_SECONDS,  # what is here by then has had the grace time
        )
        await runner.setup()
        try:
            site = web.SockSite(runner, self._listening)
            await site.start()
            await self._open(stop)
            await stop.wait()
            await site.stop()
            return await self._end(runner)
        finally:
            await runner.cleanup()
            await self._service.close()
            self._loader.shutdown(wait=False)

    def _on_signals(self) -> asyncio.Event:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        return stop

    async def _open(self, stop: asyncio.Event) -> None:
        """Loads, and is ready; or returns when it is told to stop meanwhile."""
        host, port = self._listening.getsockname()[:2]
        url = f"http://{_address(host, port)}"
        _say(f"listening at {url}; loading")
        self._is_loading = True
        loading = asyncio.get_running_loop().run_in_executor(self._loader, self._prepared)
        stopping = asyncio.ensure_future(stop.wait())
        await asyncio.wait([loading, stopping], return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if loading.done():
            self._is_loading = False
            self._service.open(loading.result())
            _say(f"ready: POST {url}/predict; GET /healthz, /readyz, /metrics. SIGTERM or Ctrl-C ends it.")

    def _prepared(self) -> Predictor:
        predictor = self._load()
        if self._warm_up:
            predictor.warm_up()
        return predictor

    async def _end(self, runner: web.AppRunner) -> int:
        """No new connections; requests that are here are answered, within the grace time."""
        self._service.stop_taking()
        _say(f"stopping; requests that are here are answered, for {self._limits.grace_seconds:g} s at most")
        end = time.monotonic() + self._limits.grace_seconds
        in_time = await self._until_quiet(end)
        await runner.cleanup()
        _say("stopped" if in_time else "stopped with requests unanswered; --grace_seconds gives them longer")
        return 0 if in_time else 1

    async def _until_quiet(self, end: float) -> bool:
        """Waits until no request has been here for a moment; False if `end`, of the monotonic clock, came first.

        A client may have sent its next request on an open connection before it could know; closing at once would lose it.
        """
        quiet_since = time.monotonic()
        while time.monotonic() - quiet_since < _QUIET_SECONDS:
            if time.monotonic() > end:
                return self._service.is_idle
            if not self._service.is_idle:
                quiet_since = time.monotonic()
            await asyncio.sleep(_POLL_SECONDS)
        return True
