"""What a server may send back: no redirect to elsewhere, and no body without end."""

import importlib
import zlib
from collections.abc import AsyncIterator
from typing import Any

from stepdistill_jax.teacher.answers.requests import RequestError

MOST_BYTES = 32 * 2**20  # of a body, unpacked; the longest answers have some hundred kB
ELSEWHERE = "redirect to another server"  # the kind of such an error
_CHUNK = 2**16
_TOO_LONG = f"a body of more than {MOST_BYTES:,} bytes, unpacked"


async def guard(response: Any) -> None:
    """A hook of httpx for every response, before its body is read and a redirect is followed.

    Raises:
      RequestError: for a redirect to another origin. Prompts would go to whoever is there, and answers come from there.
    """
    if response.has_redirect_location:
        _refuse_elsewhere(response)
    response.stream = _bounded(response)
    response.headers.pop("content-encoding", None)


def _refuse_elsewhere(response: Any) -> None:
    here, there = response.request.url, response.request.url.join(response.headers["location"])
    if _origin(here) != _origin(there):
        raise RequestError(
            ELSEWHERE,
            f"{_origin(here)} sends requests on to {_origin(there)}; if that is right, name it by --base_url",
            mend="stop",
        )


def _origin(url: Any) -> str:
    port = url.port or {"http": 80, "https": 443}.get(url.scheme)
    return f"{url.scheme}://{url.host}:{port}"


def _bounded(response: Any) -> Any:
    """The response's stream, unpacked, which fails once it is too long."""
    inner = response.stream
    pieces = _unpacked(inner, response.headers.get("content-encoding", "").strip().lower())
    library = importlib.import_module(type(response).__module__.partition(".")[0])  # httpx, or its successor

    class Bounded(library.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            num_bytes = 0
            async for piece in pieces:
                num_bytes += len(piece)
                if num_bytes > MOST_BYTES:
                    raise RequestError("answer too long", _TOO_LONG, mend="retry")
                yield piece

        async def aclose(self) -> None:
            await inner.aclose()

    return Bounded()


async def _unpacked(stream: Any, encoding: str) -> AsyncIterator[bytes]:
    """The stream's bytes; packed ones are unpacked some at a time, however many they come to."""
    if encoding in ("", "identity"):
        async for packed in stream:
            yield packed
        return
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise RequestError("malformed answer", f"Content-Encoding {encoding!r:.40} was not asked for")
    unpacker = None
    try:
        async for packed in stream:
            while packed:
                if unpacker is None or unpacker.eof:  # gzip may come in several members
                    unpacker = zlib.decompressobj(zlib.MAX_WBITS | 32)  # of either kind, by its header
                yield unpacker.decompress(packed, _CHUNK)
                packed = unpacker.unused_data if unpacker.eof else unpacker.unconsumed_tail
    except zlib.error as error:
        raise RequestError("malformed answer", f"the body can't be unpacked: {error}", mend="retry") from None
    if unpacker is None or not unpacker.eof:
        raise RequestError("malformed answer", "the packed body ends too early", mend="retry")
