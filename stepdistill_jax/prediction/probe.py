"""Does this machine compute an export's answers as the one did that exported it?

8-bit products are added up in 16 bits on CPUs without VNNI, as AMD's before Zen 4 and Intel's before Cascade Lake: sums beyond
32,767 are cut there without a word, and log-probabilities were seen to change by 28 nats. So an export for CTranslate2 carries some
texts with their log-probabilities, and whoever opens it computes them again.

    EXPORT/export.json    {"probe": {"texts": ["…", …], "log_probs": [[-0.1, -3.2], …]}, …}
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

TOLERANCE = 0.5  # nats: odds between two choices shift by a factor of 1.6 at most
_MOST_TEXTS = 3


class Asked(Protocol):
    """`Predictor`."""

    def answer_log_probs(self, texts: Sequence[str]) -> np.ndarray: ...


def measured(predictor: Asked, texts: Sequence[str]) -> dict[str, Any]:
    """What export.json says of a few of the texts, spread evenly."""
    few = list(texts[:: max(1, len(texts) // _MOST_TEXTS)][:_MOST_TEXTS])
    return {"texts": few, "log_probs": np.asarray(predictor.answer_log_probs(few)).tolist()}


def check(predictor: Asked, probe: Mapping[str, Any], *, source: object) -> None:
    """Computes them again.

    Raises:
      ValueError: if a log-probability differs by more than TOLERANCE; names the difference and the mend.
    """
    expected = np.asarray(probe["log_probs"], np.float64)
    found = np.asarray(predictor.answer_log_probs(probe["texts"]), np.float64)
    if found.shape != expected.shape:
        raise ValueError(f"{source}: export.json's probe is of another student; export it again.")
    with np.errstate(invalid="ignore"):
        differences = np.where(found == expected, 0.0, np.abs(found - expected))
    if not differences.max(initial=0.0) <= TOLERANCE:
        raise ValueError(
            f"{source} answers otherwise here than where it was exported: log-probabilities differ by {differences.max():.2g} nats, "
            f"{TOLERANCE} is tolerated. CPUs without VNNI cut sums of 8-bit products; export it with --quantization float32 for this "
            "machine, or take it as it is by --no_verify."
        )
