"""Where prepared data lies."""

import os
import sys
from pathlib import Path


def data_dir(explicit: str | os.PathLike[str] | None = None) -> Path:
    """The folder of prepared data: as given, else $STEPDISTILL_DATA_DIR, else --tfds_data_dir, else ./data."""
    if explicit is not None:
        return Path(explicit)
    if os.environ.get("STEPDISTILL_DATA_DIR"):
        return Path(os.environ["STEPDISTILL_DATA_DIR"])
    if (seqio := sys.modules.get("seqio")) is not None:
        # Under T5X's own launcher only SeqIO knows the flag.
        override = seqio.LazyTfdsLoader("none:1.0.0").data_dir
        if override:
            return Path(override)
    return Path("data")
