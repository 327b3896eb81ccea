"""SIGTERM and SIGUSR1: the run finishes its step, saves, and ends with a status of its own."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

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


def test_an_interrupt_before_the_first_step_is_one_as_in_any_program():
    with pytest.raises(KeyboardInterrupt), preemption.watched():
        os.kill(os.getpid(), signal.SIGINT)


def test_an_interrupt_is_a_notice_once_there_are_steps_to_save():
    with preemption.watched() as notice:
        notice.begin_steps(saves=True)
        os.kill(os.getpid(), signal.SIGINT)
        assert notice.reached(7)
        assert notice.exit_status == 130
    with preemption.watched() as notice:
        os.kill(os.getpid(), signal.SIGTERM)
        assert notice.exit_status == 75


@pytest.mark.parametrize("saves", [True, False])
def test_a_second_interrupt_ends_at_once_whatever_the_process_is_in(saves):
    code = f"""
import ctypes
from stepdistill_jax.engine.cluster import preemption
with preemption.watched() as notice:
    notice.begin_steps(saves={saves})
    print("in a call of C", flush=True)
    for _ in range(4):  # a signal ends one such sleep, and the second must not be the last
        ctypes.CDLL(None).sleep(60)
"""
    with subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        promise = process.stderr.readline()
        process.send_signal(signal.SIGINT)
        _, rest = process.communicate(timeout=30)
    assert process.returncode == preemption.INTERRUPTED_STATUS == 130
    will = (
        "will save after the step in hand and end"
        if saves
        else "will end after the step in hand; it saves no checkpoints"
    )
    assert promise == f"SIGINT: the run {will}; once more ends it at once.\n"
    assert rest == "SIGINT again: ended at once.\n"


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
