"""Bodies of a server: packed ones are unpacked, and none is read beyond a bound."""

import asyncio
import gzip
import sys
import tracemalloc
import zlib

import pytest

from bench.mock_llm_server import MockServer, Reply
from stepdistill_jax.teacher import Message, ModelSettings, Request, RequestError
from stepdistill_jax.teacher.backends import http_guard, openai_teacher

BODY = b'{"choices": [{"message": {"content": "yes, and "}}]}'
REQUEST = Request("e", "m", (Message("user", "hi"),))


@pytest.fixture(params=["aiohttp", "httpx"])
def ask(request, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    if request.param == "httpx":
        monkeypatch.setitem(sys.modules, "aiohttp", None)

    def answer(raw, encoding, status=200):
        async def run(url):
            async with openai_teacher.make("m", ModelSettings(base_url=url)) as teacher:
                return await teacher.answer(REQUEST)

        reply = Reply(raw=raw, status=status, headers={"Content-Encoding": encoding} if encoding else {})
        with MockServer(lambda *_: reply) as server:
            return asyncio.run(run(server.url))

    return answer


@pytest.mark.parametrize(
    ("raw", "encoding"),
    [
        (BODY, ""),
        (BODY, "identity"),
        (gzip.compress(BODY), "gzip"),
        (gzip.compress(BODY[:20]) + gzip.compress(BODY[20:]), "GZIP"),
        (zlib.compress(BODY), "deflate"),
    ],
    ids=["plain", "identity", "gzip", "two gzip members", "deflate"],
)
def test_a_body_is_unpacked(ask, raw, encoding):
    assert ask(raw, encoding).text == "yes, and "


@pytest.mark.parametrize(
    ("raw", "encoding", "words"),
    [
        (gzip.compress(BODY)[:-9], "gzip", "ends too early"),
        (b"", "gzip", "ends too early"),
        (BODY, "gzip", "can't be unpacked"),
        (BODY, "br", "'br' was not asked for"),
    ],
    ids=["cut", "empty", "not packed", "brotli"],
)
def test_a_body_that_cannot_be_unpacked_is_malformed(ask, raw, encoding, words):
    with pytest.raises(RequestError, match=words) as caught:
        ask(raw, encoding)
    assert caught.value.kind == "malformed answer"


@pytest.mark.parametrize("status", [200, 500])
@pytest.mark.parametrize("encoding", ["", "gzip"])
def test_a_body_without_end_is_not_read_to_its_end(ask, monkeypatch, encoding, status):
    monkeypatch.setattr(http_guard, "MOST_BYTES", 2**20)
    raw = gzip.compress(bytes(2**20)) * 200 if encoding else bytes(3 * 2**20)
    tracemalloc.start()
    with pytest.raises(RequestError) as caught:
        ask(raw, encoding, status)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (caught.value.kind, caught.value.mend) == ("answer too long", "retry")
    assert peak_bytes < 32 * 2**20  # of 200 MiB; imports and the server have their part
