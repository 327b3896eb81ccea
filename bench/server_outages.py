"""The teacher job against a server that is killed again and again: what is lost, what is asked twice, rate, memory.

    python bench/server_outages.py                   10,000 requests, 5 SIGKILLs, a body of 2 GB (packed: 2 MB) among them

First the same job with no kill, then with them. Each kill is SIGKILL to the server's process, which is started again a second later. A
rate is that of a stretch between an outage's end and the next kill.

Measured on 2 quiet cores: 10,000 of 10,000 answered, none failed; 304 asked twice of the 320 under way at 5 kills; 589, 617, 582, 599, 607 and
606 requests a second between them (the ideal is 640), 0.97 times the rate without kills; memory 897 MiB at the start, 930 MiB at most, with the
body of 2 GB among the answers.
"""

import argparse
import gzip
import hashlib
import itertools
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])

from bench.mock_llm_server import MockServer, Reply, plums
from bench.teacher_job import QUESTION, memory_watch

DOWN_SECONDS = 1.0
LINE_BYTES = 83  # of the server's log: when, and a hash of the prompt


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--latency", type=float, default=0.1, help="seconds")
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--serve", nargs=2, metavar=("PORT", "LOG"), help="be the server")
    args = parser.parse_args()
    if args.serve:
        serve(int(args.serve[0]), args.serve[1], args.latency)
    else:
        register(args.rows)
        undisturbed = measure(args.rows, args.concurrency, args.latency, 0)
        disturbed = measure(args.rows, args.concurrency, args.latency, args.kills)
        print(f"between outages {disturbed / undisturbed:.2f} times the rate of the job without kills")


def serve(port: int, log: str, latency_seconds: float) -> None:
    """Answers, and notes what it was asked and when; the first request about 4,321 plums gets 2 GB of nothing."""
    file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    bomb = gzip.compress(bytes(2**20), 9) * 2048
    was_sent = Path(log).with_suffix(".bomb")

    def behaviour(prompt: str, attempt: int, body: dict) -> Reply:
        os.write(file, f"{time.time():.6f} {hashlib.sha256(prompt.encode()).hexdigest()}\n".encode())
        if "has 4321 plums" in prompt and not was_sent.exists():
            was_sent.touch()
            return Reply(raw=bomb, headers={"Content-Encoding": "gzip"})
        return Reply(plums(prompt, attempt, body).text, latency_seconds=latency_seconds)

    with MockServer(behaviour, port=port) as server:
        print(server.url, flush=True)
        threading.Event().wait()


def start(log: Path, latency_seconds: float, port: int = 0) -> tuple[subprocess.Popen, str]:
    command = [sys.executable, __file__, "--latency", str(latency_seconds), "--serve", str(port), str(log)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    return process, process.stdout.readline().strip()


def register(rows: int) -> None:
    from stepdistill_jax import datasets

    datasets.register(
        datasets.Dataset(
            name="rehearsal",
            to_example=lambda row: datasets.Fields(QUESTION.format(row["n"]), f"({row['n']} + 2)"),
            rows=lambda split: [{"n": n} for n in (range(rows) if split == "train" else [rows])],
            metric="equation",
            completion=datasets.CompletionFormat("The answer is", "Q:", r"(\(.*\))"),
        )
    )


def measure(rows: int, concurrency: int, latency_seconds: float, kills: int) -> float:
    """Does a whole job and prints what became of it; gives its requests a second while the server was there."""
    from stepdistill_jax import datasets, teacher

    with tempfile.TemporaryDirectory() as folder:
        if (child := os.fork()) == 0:
            datasets.prepare("rehearsal", data_dir=folder)
            os._exit(0)
        os.waitpid(child, 0)
        log = Path(folder) / "asked.log"
        server, url = start(log, latency_seconds)
        killed: list[float] = []
        killer = threading.Thread(
            target=kill_again_and_again,
            args=(server, url, log, latency_seconds, rows, kills, killed),
            daemon=True,
        )
        killer.start()
        try:
            with memory_watch() as memory:
                manifest = teacher.teach(
                    "rehearsal",
                    teacher="openai:mock",
                    data_dir=folder,
                    model_settings=teacher.ModelSettings(base_url=url, concurrency=concurrency),
                    job_settings=teacher.JobSettings(concurrency=concurrency, rows={"train": rows}),
                )
        finally:
            killer.join()
            os.kill(RUNNING[-1].pid, signal.SIGKILL)
        return report(manifest, log, killed, memory, rows, concurrency)


RUNNING: list[subprocess.Popen] = []


def kill_again_and_again(
    server: subprocess.Popen,
    url: str,
    log: Path,
    latency_seconds: float,
    rows: int,
    kills: int,
    killed: list[float],
) -> None:
    RUNNING.append(server)
    port = int(url.rpartition(":")[2].partition("/")[0])
    for number in range(1, kills + 1):
        while not log.exists() or log.stat().st_size < LINE_BYTES * (rows * number // (kills + 1)):
            time.sleep(0.02)
        os.kill(RUNNING[-1].pid, signal.SIGKILL)
        RUNNING[-1].wait()
        killed.append(time.time())
        time.sleep(DOWN_SECONDS)
        RUNNING.append(start(log, latency_seconds, port)[0])


def report(
    manifest: dict, log: Path, killed: list[float], memory: dict[str, float], rows: int, concurrency: int
) -> float:
    lines = [line.split() for line in log.read_text().splitlines()]
    times = sorted(float(at) for at, _ in lines)
    asked = Counter(key for _, key in lines)
    requests = manifest["requests"]
    print(
        f"{manifest['counts']['train']:,} of {rows:,} examples have a record; failed {requests['failed']}, retried "
        f"{requests['retried']}\n{len(killed)} kills; asked {len(lines):,} times, {len(lines) - len(asked):,} of them again "
        f"(at most {len(killed) * concurrency:,} were under way)"
    )
    total_seconds = 0.0
    edges = [times[0], *killed, times[-1] + 1e-6]
    for before, after in itertools.pairwise(edges):
        stretch = [at for at in times if before <= at < after]
        seconds = stretch[-1] - stretch[0]
        total_seconds += seconds
        wait = stretch[0] - before
        print(
            f"  {len(stretch):6,} requests at {len(stretch) / seconds:6,.0f}/s, after {wait:.2f} s without any"
        )
    print(f"memory at the start {memory['start']:,.0f} MiB, while asking at most {memory['asking']:,.0f} MiB")
    return len(times) / total_seconds


if __name__ == "__main__":
    main()
