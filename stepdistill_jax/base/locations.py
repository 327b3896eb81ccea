"""Where prepared data lies, and what is computed from it once."""

import os
import sys
from pathlib import Path

_NO_CACHE = ("no", "off", "")


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


def compiled_dir() -> Path | None:
    """Where compiled programs are kept: $STEPDISTILL_CACHE_DIR/compiled, else ~/.cache/stepdistill-jax/compiled ($XDG_CACHE_HOME).

    'no' keeps nothing: None. Not beside DATA, which may be others' too: compiled programs are run.

    Raises:
      RuntimeError: if the user has no home.
    """
    named = os.environ.get("STEPDISTILL_CACHE_DIR")
    if named is not None:
        return None if named.lower() in _NO_CACHE else Path(named).absolute() / "compiled"
    caches = os.environ.get("XDG_CACHE_HOME", "")
    # The specification has relative paths ignored.
    base = Path(caches) if Path(caches).is_absolute() else Path.home() / ".cache"
    return base / "stepdistill-jax" / "compiled"


def cache_dir() -> Path | None:
    """Where token ids and other things that can be computed again are kept: $STEPDISTILL_CACHE_DIR, else DATA/token_cache.

    'no' keeps nothing: None.
    """
    named = os.environ.get("STEPDISTILL_CACHE_DIR")
    if named is None:
        return data_dir() / "token_cache"
    return None if named.lower() in _NO_CACHE else Path(named)
