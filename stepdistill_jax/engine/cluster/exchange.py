"""Texts between the processes of a run; where there is one process, its own."""

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


def _bytes(text: str) -> np.ndarray:
    return np.frombuffer(text.encode()[:_MAX_BYTES].ljust(_MAX_BYTES, b"\0"), np.uint8)


def _text(numbers: np.ndarray) -> str:
    return np.asarray(numbers).tobytes().rstrip(b"\0").decode(errors="ignore")
