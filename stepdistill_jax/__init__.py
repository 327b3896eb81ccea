"""Distilling step-by-step (Hsieh et al., ACL 2023, arXiv:2305.02301) in JAX.

    stepdistill_jax.prepare("tickets.csv", name="tickets", inputs="{subject}\\n{body}", label="queue")
    stepdistill_jax.teach("tickets", teacher="openai:MODEL", base_url=URL)
    run = stepdistill_jax.train("tickets", student="t5_1_1_small", begin="checkpoints/t5_1_1_small")
    stepdistill_jax.evaluate(run)
    stepdistill_jax.Predictor(run)(["My printer is on fire"])

Importing this opens nothing; each name loads at its first use (docs/python.md).
"""

import importlib
from typing import Any

from stepdistill_jax.base.version import __version__

_LAZY = {
    "Prediction": "prediction.predictor",
    "Predictor": "prediction.predictor",
    "evaluate": "launching.runs",
    "prepare": "preparing.calls",
    "teach": "teacher.calls",
    "train": "launching.named.training",
}

__all__ = ["__version__", *_LAZY]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(f"{__name__}.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
