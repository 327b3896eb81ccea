"""`stepdistill serve` under load: many clients on loopback, then a bad day, then SIGTERM while they ask.

    python bench/serving.py PATH [--requests 10000] [--clients 64] [--batch_rows 32] [--threads 2] [--long_every 50] [--stops 100]

PATH is a run or an export whose texts are tickets (bench/small_student.py). Offline, the same texts go through `Predictor` at once, in a process
with as many threads; clients and server share the machine's cores. Printed: requests a second against offline, p50 and p99, what was
lost, memory after each tenth; then what a slow client, a huge body and bad JSON get while others go on; then how the server ends
under load. With `--long_every N` each N-th text is eight tickets; with `--stops N` that many servers more are ended under load.
"""

import argparse
import asyncio
import contextlib
import json
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from small_student import ticket

from stepdistill_jax.base.usable_cpus import limit_thread_pools

_OFFLINE = """
import json, sys, time
from stepdistill_jax.base.usable_cpus import limit_thread_pools
limit_thread_pools(int(sys.argv[2]))
from stepdistill_jax.prediction.predictor import Predictor
texts = json.load(sys.stdin)
predictor = Predictor(sys.argv[1])
predictor.warm_up()
predictor(texts[:256])
begin = time.perf_counter()
labels = [prediction.label for prediction in predictor(texts)]
print(json.dumps([time.perf_counter() - begin, labels]))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path", type=Path)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--batch_rows", type=int, default=32)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--long_every", type=int, metavar="N", help="each N-th text is eight tickets")
    parser.add_argument("--stops", type=int, default=0, help="servers more that are ended under load")
    args = parser.parse_args()
    limit_thread_pools(args.threads)
    texts = _texts(args.requests, args.long_every)
    offline_seconds, labels = _offline(args, texts)
    print(f"offline: {len(texts) / offline_seconds:,.1f} labels/s")
    begin = time.perf_counter()
    with _server(args) as server:
        port = _ready(server)
        print(f"ready in {time.perf_counter() - begin:.1f} s")
        asyncio.run(_load(port, texts, labels, args.clients, len(texts) / offline_seconds, server.pid))
        asyncio.run(_bad_day(port, texts[:400]))
        asyncio.run(_stop(port, texts, args.clients, server, after=2))
    _stop_often(args, texts)


def _texts(count: int, long_every: int | None) -> list[str]:
    texts = [ticket(20_000 + number)["text"] for number in range(count)]
    if long_every:
        texts[::long_every] = [" ".join([text] * 8) for text in texts[::long_every]]
    return texts


@contextlib.contextmanager
def _server(args: argparse.Namespace) -> Iterator[subprocess.Popen]:
    command = [sys.executable, "-m", "stepdistill_jax", "serve", str(args.path), "--port", "0"]
    command += ["--threads", str(args.threads), "--batch_rows", str(args.batch_rows)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        try:
            yield server
        finally:
            server.kill()


def _stop_often(args: argparse.Namespace, texts: list[str]) -> None:
    """Ends `args.stops` servers, each at another moment of its load."""
    ends = Counter()
    for number in range(args.stops):
        with _server(args) as server, contextlib.redirect_stdout(None):
            lost, status = asyncio.run(
                _stop(_ready(server), texts, args.clients, server, after=random.Random(number).uniform(0, 1))
            )
        ends[f"status {status}, {lost} answers lost"] += 1
    if ends:
        print(f"{args.stops} servers ended under load: {dict(ends)}")


def _offline(args: argparse.Namespace, texts: list[str]) -> tuple[float, list[str]]:
    done = subprocess.run(
        [sys.executable, "-c", _OFFLINE, str(args.path), str(args.threads)],
        input=json.dumps(texts),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return tuple(json.loads(done.stdout.splitlines()[-1]))


def _ready(server: subprocess.Popen) -> int:
    for line in server.stderr:
        print(f"  {line.rstrip()}")
        if "ready" in line:
            return int(re.search(r"http://127\.0\.0\.1:(\d+)", line)[1])
    raise SystemExit("the server has ended")


class Client:
    """One connection, kept; as little work as can be, as it shares the cores with the server."""

    def __init__(self, port: int) -> None:
        self._port, self._streams = port, None

    async def ask(self, body: bytes) -> tuple[int, bytes]:
        """(status, body) of POST /predict; ConnectionError where the server is gone."""
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        writer.write(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as error:
            raise ConnectionError("closed") from error
        length = int(re.search(rb"content-length: (\d+)", head.lower())[1])
        answer = await reader.readexactly(length)
        if b"connection: close" in head.lower():
            self.close()
        return int(head.split()[1]), answer

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def _load(
    port: int, texts: list[str], labels: list[str], clients: int, offline: float, pid: int
) -> None:
    numbers, seconds, wrong, memory = iter(range(len(texts))), [], Counter(), []

    async def client() -> None:
        one = Client(port)
        for number in numbers:
            body = json.dumps({"text": texts[number]}).encode()
            begin = time.perf_counter()
            status, answer = await one.ask(body)
            seconds.append(time.perf_counter() - begin)
            if len(seconds) % (len(texts) // 10 or 1) == 0:
                memory.append(_memory(pid))
            if status != 200:
                wrong[status] += 1
            elif json.loads(answer)["label"] != labels[number]:
                wrong["another label"] += 1
        one.close()

    before, begin = _memory(pid), time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    total = time.perf_counter() - begin
    seconds.sort()
    rate = len(texts) / total
    print(
        f"{len(texts):,} requests of {clients} clients: {len(seconds):,} answered, not as offline: {dict(wrong) or 'none'}; "
        f"{rate:,.1f} a second, {100 * rate / offline:.0f} % of offline; p50 {1000 * seconds[len(seconds) // 2]:,.0f} ms, "
        f"p99 {1000 * seconds[int(0.99 * len(seconds))]:,.0f} ms; memory {before:,.0f}, then {' '.join(f'{each:,.0f}' for each in memory)} MB"
    )


async def _bad_day(port: int, texts: list[str]) -> None:
    """A slow client, a huge body and bad JSON, while four good clients go on."""
    good = Counter()

    async def go_on(mine: list[str]) -> None:
        one = Client(port)
        for text in mine:
            good[(await one.ask(json.dumps({"text": text}).encode()))[0]] += 1
        one.close()

    async def huge() -> int:
        return (await Client(port).ask(b'{"text": "' + b"x" * (50 << 20) + b'"}'))[0]

    async def slow() -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n")
        answer = asyncio.create_task(reader.readline())
        while not answer.done():
            writer.write(b" ")
            await asyncio.sleep(0.5)
        writer.close()
        return int((await answer).split()[1])

    async def bad() -> list[int]:
        bodies = (b"{", b"[]", b'{"text": ""}', b'{"txt": "a"}', b"\xff")
        return [(await Client(port).ask(body))[0] for body in bodies]

    async def tolerant(coroutine) -> object:
        try:
            return await coroutine
        except ConnectionError:
            return "closed while it sent"

    others = [go_on(texts[start::4]) for start in range(4)]
    said = await asyncio.gather(tolerant(huge()), slow(), bad(), *others)
    print(
        f"a body of 50 MB: {said[0]}; a byte every 0.5 s: {said[1]}; bad JSON: {said[2]}; others meanwhile: {dict(good)}"
    )


async def _stop(
    port: int, texts: list[str], clients: int, server: subprocess.Popen, *, after: float
) -> tuple[int, int]:
    """(answers lost, exit status) of a server that gets SIGTERM `after` seconds of load."""
    statuses, ends, lost = Counter(), Counter(), 0

    async def client(mine: list[str]) -> None:
        nonlocal lost
        one = Client(port)
        for text in mine:
            try:
                statuses[(await one.ask(json.dumps({"text": text}).encode()))[0]] += 1
            except ConnectionRefusedError:
                ends["refused"] += 1
                return
            except ConnectionError:
                ends["closed before its answer"] += 1
                lost += 1
                return
        ends["had asked all"] += 1

    asking = [asyncio.create_task(client(texts[start::clients])) for start in range(clients)]
    await asyncio.sleep(after)
    begin = time.perf_counter()
    server.send_signal(signal.SIGTERM)
    await asyncio.gather(*asking)
    status = await asyncio.to_thread(server.wait)
    print(
        f"SIGTERM under load: {dict(statuses)}, then {dict(ends)}; {lost} lost; exit status {status} after "
        f"{time.perf_counter() - begin:.2f} s"
    )
    return lost, status


def _memory(pid: int) -> float:
    """Resident, in MB."""
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1]) / 1000


if __name__ == "__main__":
    main()
