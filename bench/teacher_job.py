"""The teacher job against a local server that takes 50 ms an answer: rate, CPU time a request, memory.

    python bench/teacher_job.py                    10,000 requests, 64 at once: ideal is 64 / 0.05 s = 1,280 a second
    python bench/teacher_job.py --rows 100000      for the memory: to compare with that of 10,000

Measured on 2 cores: 92.7 to 93.0 % of the ideal and 540 us of client CPU a request on Python 3.11, 95.2 to 95.5 % and 575 us on 3.12.
The server is mock_llm_server.py in a process of its own; the job is the whole one, from prepared examples to
written records. `--compare` measures, with the same server, the ways of sending a request that were considered.
"""

import argparse
import asyncio
import contextlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

SERVER = Path(__file__).with_name("mock_llm_server.py")
QUESTION = "Mia has {} plums and gets 2 more. How many plums does she have?"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--latency", type=float, default=0.05, help="seconds")
    parser.add_argument("--compare", action="store_true", help="ways of sending a request, without the job")
    args = parser.parse_args()
    with server(args.latency) as url:
        if args.compare:
            asyncio.run(compare(url, args.concurrency, args.latency))
        else:
            measure_job(url, args.rows, args.concurrency, args.latency)


@contextlib.contextmanager
def server(latency_seconds: float) -> Iterator[str]:
    """A server process; gives its URL."""
    process = subprocess.Popen(
        [sys.executable, str(SERVER), "--latency", str(latency_seconds)], stdout=subprocess.PIPE, text=True
    )
    try:
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait()


def measure_job(url: str, rows: int, concurrency: int, latency_seconds: float) -> None:
    from stepdistill_jax import datasets, teacher
    from stepdistill_jax.base import quiet

    quiet.import_tensorflow()
    datasets.register(
        datasets.Dataset(
            name="rehearsal",
            to_example=lambda row: datasets.Fields(QUESTION.format(row["n"]), f"({row['n']} + 2)"),
            rows=lambda split: [{"n": n} for n in range(rows - 2 if split == "train" else 1)],
            metric="equation",
            completion=datasets.CompletionFormat("The answer is", "Q:", r"(\(.*\))"),
        )
    )
    with tempfile.TemporaryDirectory() as folder:
        # Preparing holds all rows; in a child, so that this process's memory is the job's own.
        if (child := os.fork()) == 0:
            datasets.prepare("rehearsal", data_dir=folder)
            os._exit(0)
        os.waitpid(child, 0)
        model = TimedModel(url, concurrency)
        settings = teacher.JobSettings(concurrency=concurrency)
        with memory_watch() as memory:
            started = time.monotonic()
            manifest = teacher.teach("rehearsal", teacher=model, data_dir=folder, job_settings=settings)
            total_seconds = time.monotonic() - started
    answered = manifest["requests"]["answered"]
    seconds, cpu = model.last - model.first, model.cpu_last - model.cpu_first
    ideal = concurrency / latency_seconds
    print(
        f"{answered:,} answers in {seconds:.2f} s: {answered / seconds:,.0f}/s, {100 * answered / seconds / ideal:.1f} % of "
        f"the ideal {ideal:,.0f}/s\n"
        f"CPU of the client {1e6 * cpu / answered:,.0f} us a request ({100 * cpu / seconds:.0f} % of one core)\n"
        f"whole job {total_seconds:.1f} s, records included\n"
        f"memory at the start {memory['start']:,.0f} MiB, while asking at most {memory['asking']:,.0f} MiB, while writing "
        f"records {memory['all']:,.0f} MiB"
    )


def TimedModel(url: str, concurrency: int):
    """The `openai:` teacher that notes when the first request starts and when the last answer is there."""
    from stepdistill_jax.teacher.backends.openai_teacher import OpenAITeacher
    from stepdistill_jax.teacher.backends.teachers import ModelSettings

    class Timed(OpenAITeacher):
        first = last = cpu_first = cpu_last = 0.0

        async def answer(self, request):
            if not self.first:
                self.first, self.cpu_first = time.monotonic(), time.process_time()
            answer = await super().answer(request)
            self.last, self.cpu_last = time.monotonic(), time.process_time()
            return answer

        async def __aexit__(self, *error):
            WATCH["phase"] = "all"
            await super().__aexit__(*error)

    return Timed("mock", "mock", ModelSettings(base_url=url, concurrency=concurrency))


WATCH = {"phase": "asking"}


@contextlib.contextmanager
def memory_watch() -> Iterator[dict[str, float]]:
    """Resident memory in MiB: at the start, at most while asking, and at most in all."""
    found = {"start": resident_mib(), "asking": 0.0, "all": 0.0}
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.2):
            now = resident_mib()
            found["all"] = max(found["all"], now)
            if WATCH["phase"] == "asking":
                found["asking"] = max(found["asking"], now)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield found
    finally:
        ended.set()
        thread.join()


def resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


async def compare(url: str, concurrency: int, latency_seconds: float) -> None:
    """Rate and CPU time a request of several ways to send one, one after another."""
    import aiohttp
    import openai

    body = {"model": "mock", "messages": [{"role": "user", "content": "x" * 1500}], "max_tokens": 256}
    options = {"base_url": url, "api_key": "none", "max_retries": 0}

    async with openai.AsyncOpenAI(**options) as client:
        await drive(
            "openai, create()", lambda: client.chat.completions.create(**body), concurrency, latency_seconds
        )
        await drive("openai, post()", lambda: _post(client, body), concurrency, latency_seconds)
    async with openai.AsyncOpenAI(**options, http_client=openai.DefaultAioHttpClient()) as client:
        await drive(
            "openai over aiohttp, create()",
            lambda: client.chat.completions.create(**body),
            concurrency,
            latency_seconds,
        )
        await drive("openai over aiohttp, post()", lambda: _post(client, body), concurrency, latency_seconds)
    async with aiohttp.ClientSession() as session:

        async def bare() -> None:
            async with session.post(f"{url}/chat/completions", json=body) as response:
                json.loads(await response.read())

        await drive("aiohttp alone", bare, concurrency, latency_seconds)


def _post(client, body) -> Awaitable[object]:
    return client.post("/chat/completions", cast_to=object, body=body)


async def drive(
    name: str,
    send: Callable[[], Awaitable[object]],
    concurrency: int,
    latency_seconds: float,
    number: int = 4000,
) -> None:
    numbers = iter(range(number))

    async def work() -> None:
        for _ in numbers:
            await send()

    started, cpu = time.monotonic(), time.process_time()
    await asyncio.gather(*(work() for _ in range(concurrency)))
    seconds, cpu = time.monotonic() - started, time.process_time() - cpu
    ideal = concurrency / latency_seconds
    print(
        f"{name:<30} {number / seconds:7,.0f}/s ({100 * number / seconds / ideal:3.0f} %)  "
        f"{1e6 * cpu / number:6,.0f} us of CPU a request",
        flush=True,
    )


if __name__ == "__main__":
    main()
