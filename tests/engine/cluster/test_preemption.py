"""SIGTERM and SIGUSR1: the run finishes its step, saves, and ends with a status of its own."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

from stepdistill_jax.engine.cluster import preemption

ROOT = Path(__file__).resolve().parents[3]


def test_a_notice_is_seen_and_the_handlers_come_back():
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)}
    for number in before:
        with preemption.watched() as notice:
            assert not notice.reached(1)
            os.kill(os.getpid(), number)
            assert notice.reached(1)
            os.kill(os.getpid(), number)  # clusters send it again
            assert notice.reached(2)
    assert {number: signal.getsignal(number) for number in before} == before


def test_another_thread_is_left_alone():
    seen = []

    def watch():
        with preemption.watched() as notice:
            seen.append(notice.reached(1))

    thread = threading.Thread(target=watch)
    thread.start()
    thread.join()
    assert seen == [False]


def test_a_preempted_process_ends_with_the_status_that_asks_for_another_try():
    code = "from stepdistill_jax.engine.cluster import preemption; preemption.end('at step 3')"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == preemption.EXIT_STATUS == 75
    assert "at step 3" in done.stderr
    assert "Traceback" not in done.stderr
