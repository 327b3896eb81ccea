"""Contenders' processes: they prepare side by side, then each is measured while the others wait."""

import contextlib
import os
import shlex
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from accelerator_contenders import folder_name
from accelerator_step import Settings
from compare import Child

Result = dict[str, Any]


class Turns:
    """All contenders' processes; leaving the context ends them."""

    def __init__(
        self,
        contenders: Sequence[Settings],
        start: Callable[[Settings], Child],
        *,
        jobs: int,
        prepare_seconds: float | None = None,
        turn_seconds: float | None = None,
    ) -> None:
        """Starts nothing yet.

        Args:
          start: starts a contender's process.
          jobs: that prepare at a time.
          prepare_seconds: of all together; who is not ready by then is left out. None waits.
          turn_seconds: of one turn. None waits.
        """
        self._contenders, self._start, self._jobs = contenders, start, jobs
        self._prepare_seconds, self._turn_seconds = prepare_seconds, turn_seconds
        self._children: dict[str, Child] = {}
        self._ready: dict[str, Result] = {}
        self._is_late = False
        self._starting = threading.Lock()

    def __enter__(self) -> "Turns":
        return self

    def __exit__(self, *exception: object) -> None:
        for child in self._children.values():
            child.kill()
            child.close()

    def prepare(self, said: Callable[[str], None]) -> None:
        """Until every contender is ready or has failed.

        Args:
          said: is given a line as each of them is.
        """
        with _after(self._prepare_seconds, self._leave_out), ThreadPoolExecutor(self._jobs) as pool:
            try:
                for _ in pool.map(lambda settings: self._prepare_one(settings, said), self._contenders):
                    pass
            except BaseException:  # Ctrl-C too: the pool waits for its threads, and they for their processes
                self._leave_out()
                raise

    def _prepare_one(self, settings: Settings, said: Callable[[str], None]) -> None:
        try:
            with self._starting:
                if self._is_late:
                    raise RuntimeError("not started")
                child = self._children[settings.name] = self._start(settings)
            answer = _answer(child.ready())
            self._ready[settings.name] = {**answer, "ready_seconds": child.first_step_seconds}
            said(f"{settings.name}: ready after {child.first_step_seconds:.0f} s")
        except RuntimeError as error:
            why = _last_line(error)
            if self._is_late and self._prepare_seconds is not None:
                why = f"not ready within --prepare_seconds={self._prepare_seconds:g}"
            self._ready[settings.name] = {"error": why}
            said(f"{settings.name}: {why}")

    def _leave_out(self) -> None:
        """Ends those that are not ready, and starts no more."""
        with self._starting:
            self._is_late = True
            for name, child in self._children.items():
                if name not in self._ready:
                    child.kill()

    def measure(self, settings: Settings, profile: Path | None = None) -> Result:
        """What a contender answers in its turn, and its 'error' if it has failed; its process ends.

        Args:
          profile: a folder for traces of ours; None for none.
        """
        result = dict(self._ready[settings.name])
        if "error" in result:
            return result
        child = self._children[settings.name]
        late = threading.Event()

        def end() -> None:
            late.set()
            child.kill()

        with _after(self._turn_seconds, end):
            try:
                result |= _answer(child.ask("train"))
                result["first_step_seconds"] += result["ready_seconds"]
                if settings.labels:
                    result |= _answer(child.ask("labels"))
                if profile is not None and settings.who == "ours":
                    folder = str((profile / folder_name(settings.name)).resolve())
                    result |= _answer(child.ask(f"profile {shlex.quote(folder)}"))
            except RuntimeError as error:
                result["error"] = _last_line(error)
        if late.is_set():
            result["error"] = f"not done within --turn_seconds={self._turn_seconds:g}"
        child.kill()  # what it holds of the device is the next one's
        return result


def environment(xla_flags: str = "", base: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Of a contender: one device, of which each takes what it needs, and nothing that an earlier run has compiled."""
    settings = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "CUDA_VISIBLE_DEVICES": "0", **base}
    if xla_flags:
        settings["XLA_FLAGS"] = f"{settings.get('XLA_FLAGS', '')} {xla_flags}".strip()
    return {name: value for name, value in settings.items() if name != "JAX_COMPILATION_CACHE_DIR"}


@contextlib.contextmanager
def _after(seconds: float | None, action: Callable[[], None]) -> Iterator[None]:
    """Does it if the context is still open then; None never does."""
    if seconds is None:
        yield
        return
    timer = threading.Timer(seconds, action)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _answer(answer: Result) -> Result:
    if "error" in answer:
        raise RuntimeError(answer["error"])
    return answer


def _last_line(error: RuntimeError) -> str:
    return str(error).strip().splitlines()[-1].strip()
