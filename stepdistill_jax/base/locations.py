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
    """Where compiled programs are kept: ~/.cache/stepdistill-jax/compiled, or below $XDG_CACHE_HOME.

    None where $STEPDISTILL_CACHE_DIR is 'no'. What else it says does not matter: token ids may be shared, programs are run.

    Raises:
      RuntimeError: if the user has no home.
    """
    if os.environ.get("STEPDISTILL_CACHE_DIR", "yes").lower() in _NO_CACHE:
        return None
    caches = Path(os.environ.get("XDG_CACHE_HOME", ""))
    # The XDG specification has relative paths ignored.
    base = caches if caches.is_absolute() else Path.home() / ".cache"
    return base / "stepdistill-jax" / "compiled"


def cache_dir() -> Path | None:
    """Where token ids and other things that can be computed again are kept: $STEPDISTILL_CACHE_DIR, else DATA/token_cache.

    'no' keeps nothing: None.
    """
    named = os.environ.get("STEPDISTILL_CACHE_DIR")
    if named is None:
        return data_dir() / "token_cache"
    return None if named.lower() in _NO_CACHE else Path(named)
