"""Texts between the processes of a run; where there is one process, its own."""

import json
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

_MAX_BYTES = 2048  # of a text; the rest is cut


def from_process_0(text: str) -> str:
    """The text of process 0, in every process, each of which must call this."""
    if jax.process_count() == 1:
        return text
    return _text(multihost_utils.broadcast_one_to_all(_bytes(text)))


def from_all(text: str) -> list[str]:
    """Every process's text, in every process, each of which must call this."""
    if jax.process_count() == 1:
        return [text]
    return [_text(row) for row in multihost_utils.process_allgather(_bytes(text))]


def results_of_all(function: Callable[[], Any]) -> list[Any]:
    """What every process's function gives, as JSON has it. Where one fails, all do, and none waits for it.

    Raises:
      RuntimeError: if it failed in another process; here its own error is raised.
    """
    error = None
    try:
        here = json.dumps({"result": function()})
    except Exception as failed:
        error, here = failed, json.dumps({"error": f"{type(failed).__name__}: {failed}"[:300]})
    found = [json.loads(text) for text in from_all(here)]
    if error is not None:
        raise error
    for of_process in found:
        if "error" in of_process:
            raise RuntimeError(f"What went well here failed in another process: {of_process['error']}")
    return [of_process["result"] for of_process in found]


def _bytes(text: str) -> np.ndarray:
    return np.frombuffer(text.encode()[:_MAX_BYTES].ljust(_MAX_BYTES, b"\0"), np.uint8)


def _text(numbers: np.ndarray) -> str:
    return np.asarray(numbers).tobytes().rstrip(b"\0").decode(errors="ignore")
