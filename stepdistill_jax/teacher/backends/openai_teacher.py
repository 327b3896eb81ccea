"""The teacher `openai:MODEL`: any OpenAI-compatible server, through the `openai` client."""

import asyncio
import contextlib
import dataclasses
import functools
import importlib
import json
import os
import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from stepdistill_jax.teacher.answers.requests import Answer, Request, RequestError
from stepdistill_jax.teacher.backends import http_guard, openai_bodies, openai_options, secrets
from stepdistill_jax.teacher.backends.teachers import ModelSettings

DEFAULT_URL = "https://api.openai.com/v1"
APIS = ("chat", "completions")
MOST_CHARACTERS = 1_000_000  # of an answer; no teacher says that much, so it is a server gone wrong
# Headers about this machine that the client adds: no server needs them, and each costs CPU time in every request.
_TELEMETRY = tuple(
    f"X-Stainless-{name}"
    for name in (
        *("Lang", "Package-Version", "OS", "Arch", "Runtime", "Runtime-Version", "Async"),
        *("Retry-Count", "Read-Timeout"),
    )
)
_LONGEST_DETAIL = 300  # characters of a server's own words kept of an error
_CONNECT_SECONDS = 10.0
_LONGEST_WAIT_SECONDS = (
    366 * 24 * 3600.0
)  # a server that asks for more, or for 'inf', asks for no date that there is
# Exceptions of a connection that never came about, by name: of aiohttp (DNS and TLS included), and of httpx.
_NOT_REACHED = {
    "ClientConnectorError",
    "ConnectionTimeoutError",
    "ConnectError",
    "ConnectTimeout",
    "ProxyError",
}


def make(model: str, settings: ModelSettings) -> "OpenAITeacher":
    """The teacher for `--teacher openai:MODEL`; its options are those of `openai_options`.

    Raises:
      ValueError: an unknown or malformed option, no model, no API of that name, a URL that is none, or no key for OpenAI's own server.
    """
    if not model:
        raise ValueError("--teacher openai: names no model; write openai:MODEL, as the server calls it.")
    return OpenAITeacher(f"openai-{re.sub(r'[^A-Za-z0-9._-]+', '-', model).strip('-')}", model, settings)


class OpenAITeacher:
    """Answers by POST to BASE_URL/chat/completions or BASE_URL/completions.

    The client's own retries are off, as the job counts them. Bodies go through the client's `post`, which is what its
    `chat.completions.create` calls after validating: that, and a Pydantic model of every answer, would cost more than
    all the rest. Through aiohttp, where it is installed, a request takes half of httpx's CPU time again.
    """

    def __init__(self, name: str, model: str, settings: ModelSettings):
        api = settings.api or "chat"
        if api not in APIS:
            raise ValueError(f"--api {api}: use {' or '.join(APIS)}.")
        self.name, self.model, self.chat = name, model, api == "chat"
        self._url = settings.base_url or os.environ.get("OPENAI_BASE_URL") or DEFAULT_URL
        self.public_url = secrets.public_url(self._url)
        if urlsplit(self._url).scheme not in ("http", "https") or not urlsplit(self._url).hostname:
            raise ValueError(f"--base_url {self.public_url}: not a URL such as http://127.0.0.1:8000/v1.")
        self._key = os.environ.get(settings.api_key_env, "").strip()  # a line end comes along from files
        if not (self._key.isascii() and self._key.isprintable()):
            raise ValueError(f"${settings.api_key_env} holds no key: a key is made of printable ASCII.")
        if settings.asks and not self._key and self._url == DEFAULT_URL:
            raise ValueError(
                f"No key for {DEFAULT_URL}: set ${settings.api_key_env}, or name another server by --base_url."
            )
        self._settings = settings
        options = openai_options.read(settings.options)
        self.extra, self.response_format = options.extra, options.response_format
        self._max_tokens_field = options.max_tokens_field
        self._redact = secrets.Redactor([self._key, *secrets.secrets_of_url(self._url)])
        self._client: Any = None

    async def __aenter__(self) -> "OpenAITeacher":
        import openai

        self._errors = openai
        self._left_out = dict.fromkeys(_TELEMETRY, openai.Omit())
        self._client = openai.AsyncOpenAI(
            base_url=self.public_url,
            default_headers=secrets.authorization_of_url(self._url),
            default_query=dict(parse_qsl(urlsplit(self._url).query)),
            api_key=self._key or "none",
            max_retries=0,
            timeout=_timeout(openai, self._settings),
            http_client=_http_client(openai, self._settings),
        )
        return self

    async def reach(self) -> None:
        """Asks for the list of models, to see whether there is a server; what it says does not matter.

        Raises:
          RequestError: if it can't be reached, or sends one to another server.
        """
        try:
            async with asyncio.timeout(2 * _CONNECT_SECONDS):
                await self._client.get("/models", cast_to=object, options={"headers": self._left_out})
        except Exception as cause:
            error = self._request_error(cause)
            if error is None:
                raise
        else:
            return
        # A status says that there is a server, unless it is one of a gateway, or of a server that is being started.
        is_status = error.kind.startswith("HTTP ") and error.kind not in ("HTTP 502", "HTTP 503", "HTTP 504")
        if not is_status and (error.server != "answers" or error.kind == http_guard.ELSEWHERE):
            raise error

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()

    async def answer(self, request: Request) -> Answer:
        path, body = openai_bodies.request_body(request, self._max_tokens_field)
        options = {"headers": self._left_out, "idempotency_key": request.key}  # else one is drawn for each
        try:
            # The client's own timeout is between two bytes; this one is of the whole answer.
            async with asyncio.timeout(self._settings.timeout_seconds):
                content = await self._client.post(
                    path, cast_to=object, content=json.dumps(body).encode(), options=options
                )
            return self._read(content)
        except Exception as cause:
            error = self._request_error(cause)
            if error is None:
                raise
        # Not `raise … from`: the client's exceptions hold the request with its key.
        raise error

    def _request_error(self, cause: Exception) -> RequestError | None:
        """What an exception of the client means; None for one that is a fault in the program."""
        causes = _causes(cause)
        if isinstance(causes[-1], RequestError):
            return causes[-1]
        if isinstance(cause, self._errors.APIStatusError):
            return self._status_error(cause)
        if _was_not_reached(causes):
            last = causes[-1]  # the client calls a refused connection a timeout, too
            is_told = isinstance(last, OSError) and not isinstance(last, TimeoutError)
            late = not is_told and any("Timeout" in type(one).__name__ for one in causes)
            why = "no connection in time" if late else self._detail(causes[-1])
            detail = f"{self.public_url} can't be reached: {why}"
            return RequestError("no server", detail, mend="retry", server="gone")
        if any(isinstance(one, TimeoutError) for one in causes):
            detail = f"no answer within {self._settings.timeout_seconds:g} s"
            return RequestError("timeout", detail, mend="retry", overload=True, server="silent")
        if isinstance(cause, (self._errors.APIConnectionError, OSError, *_transport_errors())):
            return RequestError("connection broken", self._detail(causes[-1]), mend="retry", server="lost")
        if isinstance(
            cause, (ValueError, RecursionError)
        ):  # of the JSON parser: wrong, too deep, a number too long
            return RequestError("malformed answer", self._detail(cause), mend="retry")
        return None

    def _read(self, content: Any) -> Answer:
        """The answer in a parsed JSON body.

        Raises:
          RequestError: for a body of another shape; a server that is being restarted may send one, so it is tried again.
        """
        if isinstance(content, dict) and content.get("error"):
            detail = self._detail(content["error"])
            if "insufficient_quota" in str(content["error"]):
                raise RequestError("quota used up", detail, mend="stop")
            raise RequestError("server error in answer", detail, mend="retry")
        try:
            answer = openai_bodies.read_answer(content)
        except RequestError as error:
            raise RequestError(error.kind, self._detail(error.detail), mend=error.mend) from None
        except (KeyError, IndexError, TypeError, ValueError, AttributeError):
            raise RequestError("malformed answer", self._detail(content), mend="retry") from None
        if (length := len(answer.text) + len(answer.thoughts)) > MOST_CHARACTERS:
            raise RequestError("answer too long", f"{length:,} characters", mend="give_up")
        text, hidden = self._redact.in_answer(answer.text)
        thoughts, hidden_thoughts = self._redact.in_answer(answer.thoughts)
        return dataclasses.replace(
            answer,
            text=text,
            finish_reason=self._redact(answer.finish_reason),
            model=self._redact(answer.model),
            thoughts=thoughts,
            num_hidden=hidden + hidden_thoughts,
        )

    def _status_error(self, cause: Any) -> RequestError:
        status, detail = cause.status_code, self._detail(cause.body or cause.message)
        wait = retry_after_seconds(cause.response.headers)
        # OpenAI says the latter as the error's code or type, not in its message.
        if status == 402 or (status == 429 and "insufficient_quota" in f"{cause.body} {cause.message}"):
            return RequestError("quota used up", detail, mend="stop")
        if status == 429:
            return RequestError("rate limited", detail, mend="retry", overload=True, retry_after_seconds=wait)
        if status in (408, 409) or status >= 500:
            overload = status in (503, 504, 529)
            # A gateway says 502 when it has lost the server behind it.
            server = "answers" if status < 500 else "lost" if status == 502 else "fails"
            return RequestError(
                f"HTTP {status}",
                detail,
                mend="retry",
                overload=overload,
                retry_after_seconds=wait,
                server=server,
            )
        # Wrong key, no permission, no such model or path: no other request will fare better.
        mend = "stop" if status in (401, 403, 404, 405) else "give_up"
        return RequestError(f"HTTP {status}", detail, mend=mend)

    def _detail(self, what: object) -> str:
        """A server's or a library's words on one line, short, and without secrets."""
        if isinstance(what, dict):
            what = what.get("message") or json.dumps(what, ensure_ascii=False)
        text = str(what) or type(what).__name__
        return " ".join(self._redact(openai_bodies.valid_text(text)).split())[:_LONGEST_DETAIL]


def retry_after_seconds(headers: Any, *, now: datetime | None = None) -> float | None:
    """What `retry-after-ms` or `Retry-After` (seconds, or an HTTP date) asks for; None without or if unreadable."""
    value = headers.get("retry-after", "")
    for seconds, unit in ((headers.get("retry-after-ms", ""), 0.001), (value, 1.0)):
        with contextlib.suppress(ValueError):
            return min(max(0.0, float(seconds) * unit), _LONGEST_WAIT_SECONDS)
    try:
        date = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    date = date if date.tzinfo else date.replace(tzinfo=UTC)
    return min(max(0.0, (date - (now or datetime.now(UTC))).total_seconds()), _LONGEST_WAIT_SECONDS)


def _causes(error: BaseException) -> list[BaseException]:
    """The exception and those it was raised from: over aiohttp, the client's class calls a broken connection a timeout."""
    causes = [error]
    while (cause := causes[-1].__cause__) is not None:
        causes.append(cause)
    return causes


def _was_not_reached(causes: list[BaseException]) -> bool:
    """Whether no connection came about. aiohttp's own exception decides where there is one: what httpx calls it is vague."""
    of_aiohttp = [cause for cause in causes if type(cause).__module__.startswith("aiohttp")]
    names = {of.__name__ for cause in of_aiohttp or causes for of in type(cause).__mro__}
    return not _NOT_REACHED.isdisjoint(names)


def _http_client(openai: Any, settings: ModelSettings) -> Any:
    """The client's transport over aiohttp if that is installed, else its own; `http_guard` sees every response."""
    try:
        import aiohttp  # noqa: F401
    except ImportError:
        client = openai.DefaultAsyncHttpxClient
    else:
        client = openai.DefaultAioHttpClient
    return client(timeout=_timeout(openai, settings), event_hooks={"response": [http_guard.guard]})


def _timeout(openai: Any, settings: ModelSettings) -> Any:
    seconds = settings.timeout_seconds
    return openai.Timeout(seconds, connect=min(_CONNECT_SECONDS, seconds))


@functools.cache
def _transport_errors() -> tuple[type[Exception], ...]:
    """The base exceptions of whichever HTTP libraries the client may use here."""
    found: list[type[Exception]] = []
    for module, name in (("httpx2", "HTTPError"), ("httpx", "HTTPError"), ("aiohttp", "ClientError")):
        try:
            found.append(getattr(importlib.import_module(module), name))
        except ImportError:
            continue
    return tuple(found)
