"""A server of the fake student, as a process of its own: python served_fake.py PORT SECONDS_A_BATCH [GRACE] [LOADING]."""

import sys
import time

from fake_student import FakeStudent

from stepdistill_jax.serving.limits import Limits
from stepdistill_jax.serving.server import serve

port, seconds, grace, loading = (*map(float, sys.argv[1:]), *(20.0, 0.0)[len(sys.argv) - 3 :])


def load():
    time.sleep(loading)
    if loading < 0:
        raise ValueError("there is no student here")
    return FakeStudent(seconds=seconds)


sys.exit(serve(load, host="127.0.0.1", port=int(port), limits=Limits(grace_seconds=grace)))
