"""Importing TensorFlow, which only reads data here, without its native log lines about GPUs and CPU features."""

import contextlib
import os
import sys
from collections.abc import Iterator


def import_tensorflow() -> None:
    """Imports TensorFlow with standard error closed to its C++ logging; an ImportError shows as ever."""
    if "tensorflow" in sys.modules:
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with _native_stderr_closed():
        import tensorflow

        for kind in ("GPU", "TPU"):  # they are JAX's
            tensorflow.config.set_visible_devices([], kind)


@contextlib.contextmanager
def _native_stderr_closed() -> Iterator[None]:
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
