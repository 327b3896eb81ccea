"""A local OpenAI-compatible server that answers what a test says, or fails as it says; standard library only.

    python bench/mock_llm_server.py --latency 0.05        prints its URL, and serves until it is killed

Tests of the teacher use it, too: `with MockServer(behaviour) as server: … server.url … server.answered`.
"""

import argparse
import asyncio
import json
import re
import selectors
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Reply:
    """What the server does with one request.

    Attributes:
      text: the answer; ignored where `raw` is given.
      status, headers: of HTTP.
      raw: the whole body instead of an OpenAI answer.
      cut: how many bytes of the body are sent before the connection is broken; None sends all.
      reset: whether the connection is broken before any byte is sent.
      latency_seconds: before the answer.
    """

    text: str = ""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    raw: bytes | None = None
    cut: int | None = None
    reset: bool = False
    finish_reason: str = "stop"
    latency_seconds: float = 0.0


# (prompt text, how often this very body has been asked before, body) -> Reply
Behaviour = Callable[[str, int, dict[str, Any]], Reply]


def plums(prompt: str, attempt: int, body: dict[str, Any]) -> Reply:
    """Right answers to 'Mia has 12 plums and gets 2 more.', whatever stands around it."""
    number = re.findall(r"has (\d+)", prompt)[-1]
    return Reply(f"Mia had {number} plums and got 2. The answer is ({number} + 2).")


class MockServer:
    """Serves in a thread of its own; counters may be read at any time.

    asked: body (JSON text) -> how often it came; answered: body -> how often an answer was sent whole with status 200.
    headers: the last request's, lower-case names; kills: how often it was killed.
    """

    def __init__(self, behaviour: Behaviour = plums, *, port: int = 0):
        self.behaviour = behaviour
        self.asked: Counter[bytes] = Counter()
        self.answered: Counter[bytes] = Counter()
        self.headers: dict[str, str] = {}
        self.in_flight = self.most_in_flight = 0
        self.kills = 0
        self._port = port
        self._transports: set[asyncio.BaseTransport] = set()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "MockServer":
        self._thread.start()
        self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}/v1"

    def kill(self, *, back_after_seconds: float | None = None) -> None:
        """What SIGKILL does: breaks all connections and listens no more; from any thread, and from a behaviour."""
        self._loop.call_soon_threadsafe(self._die, back_after_seconds)

    def revive(self) -> None:
        """Listens again, at the same port."""
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)

    def _die(self, back_after_seconds: float | None) -> None:
        for transport in list(self._transports):
            transport.abort()
        if self._listening is None:  # dead already, or just being started
            return
        self.kills += 1
        self._listening.close()
        self._listening = None
        if back_after_seconds is not None:
            self._loop.call_later(
                back_after_seconds, lambda: setattr(self, "_back", self._loop.create_task(self._listen()))
            )

    async def _listen(self) -> None:
        self._listening = await self._loop.create_server(
            lambda: _Connection(self), "127.0.0.1", self._port, reuse_address=True
        )

    def _run(self) -> None:
        # Not epoll, which waits in whole milliseconds and rounds up: a latency of 50 ms would become 51.2.
        with asyncio.Runner(
            loop_factory=lambda: asyncio.SelectorEventLoop(selectors.SelectSelector())
        ) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        await self._listen()
        self._port = self._listening.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        if self._listening is not None:
            self._listening.close()


class _Connection(asyncio.Protocol):
    """HTTP/1.1 with keep-alive: reads a request with a Content-Length, answers it, reads the next."""

    def __init__(self, server: MockServer):
        self._server, self._buffer = server, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._server._transports.add(transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._server._transports.discard(self._transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, separator, rest = self._buffer.partition(b"\r\n\r\n")
        if not separator:
            return
        lines = head.decode("latin-1").split("\r\n")
        headers = {
            name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])
        }
        length = int(headers.get("content-length", 0))
        if len(rest) < length:
            return
        self._buffer = rest[length:]
        path = lines[0].split(" ")[1]
        self._server.headers = headers
        self._answer(path, rest[:length])

    def _answer(self, path: str, body: bytes) -> None:
        server = self._server
        if path == "/v1/models":
            self._send(Reply(raw=b'{"object": "list", "data": []}'), b"")
            return
        request = json.loads(body)
        prompt = request["messages"][-1]["content"] if "messages" in request else request["prompt"]
        reply = server.behaviour(prompt, server.asked[body], request)
        server.asked[body] += 1
        server.in_flight += 1
        server.most_in_flight = max(server.most_in_flight, server.in_flight)
        if reply.raw is None and reply.status == 200:
            reply = Reply(**{**vars(reply), "raw": _openai_answer(request, reply)})
        asyncio.get_running_loop().call_later(reply.latency_seconds, self._finish, reply, body)

    def _finish(self, reply: Reply, body: bytes) -> None:
        self._server.in_flight -= 1
        self._send(reply, body)

    def _send(self, reply: Reply, body: bytes) -> None:
        if reply.reset or self._transport.is_closing():
            self._transport.abort()
            return
        content = reply.raw if reply.raw is not None else b'{"error": {"message": "no"}}'
        lines = [
            f"HTTP/1.1 {reply.status} X",
            "Content-Type: application/json",
            f"Content-Length: {len(content)}",
            *(f"{name}: {value}" for name, value in reply.headers.items()),
        ]
        self._transport.write("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + content[: reply.cut])
        if reply.cut is not None:
            self._transport.close()
        elif reply.status == 200 and body:
            self._server.answered[body] += 1


def _openai_answer(request: dict[str, Any], reply: Reply) -> bytes:
    choice: dict[str, Any] = {"index": 0, "finish_reason": reply.finish_reason}
    if "messages" in request:
        choice["message"] = {"role": "assistant", "content": reply.text}
    else:
        choice["text"] = reply.text
    body = {
        "id": "mock",
        "object": "chat.completion" if "messages" in request else "text_completion",
        "created": 0,
        "model": f"{request['model']}-0001",
        "choices": [choice],
        "usage": {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120},
    }
    return json.dumps(body).encode()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--latency", type=float, default=0.05, help="seconds before every answer")
    args = parser.parse_args()

    def behaviour(prompt: str, attempt: int, body: dict[str, Any]) -> Reply:
        return Reply("So it is. The answer is (1 + 2).", latency_seconds=args.latency)

    with MockServer(behaviour, port=args.port) as server:
        print(server.url, flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
